"""`python -m kiago_ray`: the same as `kiago`."""

from kiago_ray.cli.main import main

if __name__ == "__main__":
    main()
