"""What the commands do, once their options are read; `commands` declares the options.

Options come in; an exit code goes out. Long imports happen here, never in `commands`.
"""
