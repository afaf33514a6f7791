defmodule Roost do
  @moduledoc """
  A small application in the shape of a Phoenix one, for tests of what runs such releases.
  """

  @doc "The version of the image: `v1`, `v2`, ..., or the name of a broken one."
  def variant, do: Application.get_env(:roost, :variant, "v1")

  @doc "The version of the release, such as `1.0.0`."
  def vsn, do: :roost |> Application.spec(:vsn) |> to_string()
end
