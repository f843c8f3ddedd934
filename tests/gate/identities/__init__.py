"""What must hold between the torch solvers and the SymPy derivations, one function per identity.

Each identity takes a random problem and raises `AssertionError` naming the identity, the inputs,
both values and the tolerance. What must hold of anybody's solver stands in
`paper_checks.conformance.identities`; here it meets this project's. The tests beside this
package run the identities over random problems; `test_bites.py` plants faults and requires that
they raise.
"""
