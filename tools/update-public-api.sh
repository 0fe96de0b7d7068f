#!/usr/bin/env bash
# Writes the public surface of each library, as the analyzer (RS0016) sees it, into its PublicAPI.Unshipped.txt:
# what is not listed in PublicAPI.Shipped.txt already. The difference is then there to review and to commit.
# A member that was shipped and is gone stays an error (RS0017) until "*REMOVED*" and its line are added by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

for project in src/*/*.csproj; do
    folder=$(dirname "$project")
    if [ ! -f "$folder/PublicAPI.Shipped.txt" ]; then
        echo '#nullable enable' > "$folder/PublicAPI.Shipped.txt"
    fi
    echo '#nullable enable' > "$folder/PublicAPI.Unshipped.txt"
    dotnet format analyzers "$project" --diagnostics RS0016 --severity info --verbosity quiet
    echo "$folder/PublicAPI.Unshipped.txt: $(($(wc -l < "$folder/PublicAPI.Unshipped.txt") - 1)) entries"
done

# Whatever the files still miss is an error here.
for project in src/*/*.csproj; do
    dotnet build "$project" --configuration Release --verbosity quiet --nologo
done
