"""Claims about the figures and tables, a module for each.

The purposes of their seeds keep the letters that figures once had: another word, another seed.
"""
