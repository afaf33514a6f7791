defmodule Roost.Json do
  @moduledoc "Just enough of an encoder: maps, lists, strings, atoms, numbers."

  @doc "The value as iodata."
  def encode(nil), do: "null"
  def encode(value) when is_boolean(value) or is_number(value), do: to_string(value)
  def encode(value) when is_atom(value), do: value |> Atom.to_string() |> encode()
  def encode(value) when is_binary(value), do: [?", escape(value), ?"]
  def encode(value) when is_list(value), do: [?[, value |> Enum.map(&encode/1) |> commas(), ?]]

  def encode(value) when is_map(value) do
    members = for {key, item} <- Enum.sort(value), do: [encode(to_string(key)), ?:, encode(item)]
    [?{, commas(members), ?}]
  end

  defp commas(items), do: Enum.intersperse(items, ?,)

  defp escape(text) do
    if String.valid?(text),
      do: for(<<char::utf8 <- text>>, into: "", do: escape_char(char)),
      else: escape(inspect(text))
  end

  defp escape_char(?"), do: ~S(\")
  defp escape_char(?\\), do: ~S(\\)
  defp escape_char(char) when char < 0x20, do: "\\u00" <> Base.encode16(<<char>>)
  defp escape_char(char), do: <<char::utf8>>
end
