"""batch-llm: LLM calls over thousands to millions of documents."""
