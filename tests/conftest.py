"""What all tests need: the environment of the person who runs them changes nothing, nor does a slow machine."""

import os

from hypothesis import HealthCheck, settings

for _name in [name for name in os.environ if name.startswith("POSTHOUSE_") and name != "POSTHOUSE_CORPUS"]:
    del os.environ[_name]

# How long an example took says something about the machine, not about the code.
settings.register_profile("posthouse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("posthouse")
