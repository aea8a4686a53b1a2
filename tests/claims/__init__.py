"""Tests of claims. `bench.claims.NAME` is the module that the loader of plug-ins made of a claim's file."""

import sys

import bench.claims
from vae_variants.plugins import load_plugin, loaded
from vae_variants.studies import claim_files

for _name, _path in claim_files().items():
    load_plugin(_path)
    _plugin = next(name for name in loaded if name.startswith(f"vae_variants_plugin_{_name}_"))
    setattr(bench.claims, _name, sys.modules[_plugin])
    for _module in [name for name in sys.modules if name == _plugin or name.startswith(f"{_plugin}.")]:
        sys.modules[f"bench.claims.{_name}{_module.removeprefix(_plugin)}"] = sys.modules[_module]
