"""What tests share: environments, models, callbacks that YAML names, run folders, servers."""
