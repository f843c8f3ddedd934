"""One check per claim of the paper and of this project: `python -m paper_checks`.

A claim is judged by running something; its verdict is computed, and compared with the verdict that
the project stands for.
"""
