"""Prints by how many bytes the peak of a stream grows after its first tenth, in a process that does nothing else."""

from __future__ import annotations

import asyncio
import tracemalloc

from batch_llm import LLMCallStrategy, LLMWorkItem, ParallelBatchProcessor, ProcessorConfig

ITEMS = 20_000


class AtOnce(LLMCallStrategy[str]):
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        return prompt, {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


async def main() -> None:
    strategy, peaks, seen = AtOnce(), list[int](), 0
    source = (LLMWorkItem[None, str, None](str(number), strategy, "x" * 1000) for number in range(ITEMS))
    processor = ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=10, progress_interval=ITEMS))
    tracemalloc.start()
    async for _ in processor.process_stream(source):
        seen += 1
        if seen % (ITEMS // 10) == 0:
            peaks.append(tracemalloc.get_traced_memory()[1])
    print(peaks[-1] - peaks[0])


if __name__ == "__main__":
    asyncio.run(main())
