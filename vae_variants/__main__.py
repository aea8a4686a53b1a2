"""`python -m vae_variants` is `vae-variants`."""

from vae_variants.cli import main

if __name__ == "__main__":
    main()
