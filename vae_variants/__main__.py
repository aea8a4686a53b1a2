"""`python -m vae_variants` is `vae-variants`."""

from vae_variants.cli.app import main

if __name__ == "__main__":
    main()
