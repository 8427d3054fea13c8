"""Actions of the commands, run after `commands` has parsed the options.

Options come in; an exit code goes out. Slow imports happen here, never in `commands`.
"""
