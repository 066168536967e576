"""`python -m bandoneon`: the command line."""

from bandoneon.cli import main

if __name__ == "__main__":
    main()
