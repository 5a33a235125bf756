"""`python -m torrefy` is `torrefy`."""

from torrefy.cli import main

main(prog_name="torrefy")
