import Config

config :logger, :console, format: "$time [$level] $message\n"
config :logger, level: :info

config :roost, variant: System.get_env("ROOST_VARIANT", "v1")
