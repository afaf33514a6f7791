defmodule Roost.MixProject do
  use Mix.Project

  # Which migrations a version carries; a version is chosen by ROOST_VARIANT at build time.
  @variants %{
    "v1" => {"1.0.0", ~w(20260101000001)},
    "v2" => {"2.0.0", ~w(20260101000001 20260102000001)},
    "v3" => {"3.0.0", ~w(20260101000001 20260102000001 20260103000001)},
    "crash" => {"2.1.0", ~w(20260101000001 20260102000001)},
    "neverready" => {"2.2.0", ~w(20260101000001 20260102000001)},
    "badmigrate" => {"2.3.0", ~w(20260101000001 20260102000001 20260102000009)}
  }

  def project do
    [
      app: :roost,
      version: version(),
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [],
      releases: [
        roost: [
          include_executables_for: [:unix],
          # Every image has its own cookie, as images of a real pipeline do; made from the
          # version and not by chance, so that the same source gives the same image.
          cookie: "image-" <> String.replace(version(), ".", "-"),
          steps: [:assemble, &keep_own_migrations/1]
        ]
      ]
    ]
  end

  def application do
    [
      extra_applications: [:logger, :runtime_tools, :crypto, :inets, :ssl, :p1_pgsql],
      mod: {Roost.Application, []}
    ]
  end

  defp variant, do: System.get_env("ROOST_VARIANT", "v1")
  defp version, do: @variants |> Map.fetch!(variant()) |> elem(0)

  # As if the later files had not been written yet when this version was built.
  defp keep_own_migrations(release) do
    {_vsn, own} = Map.fetch!(@variants, variant())

    {kept, later} =
      [release.path, "lib", "roost-#{release.version}", "priv/repo/migrations/*"]
      |> Path.join()
      |> Path.wildcard()
      |> Enum.split_with(&(String.slice(Path.basename(&1), 0, 14) in own))

    length(kept) == length(own) || Mix.raise("of migrations #{inspect(own)} only #{inspect(kept)} are in the release")
    Enum.each(later, &File.rm!/1)
    release
  end
end
