"""Attacks reeve while it works as a superuser, and prints which attacks succeed. The attackers are a role without rights,
the owner of a database, a file and a client. The environment variable PROGRAM names another build to attack."""
import subprocess, sys
from common import say
import names, ledgers, migrations, trials, backups, doors, repositories, clients
from world import World, attacks


def main():
    only = sys.argv[2:]
    unknown = [name for name in only if name not in attacks]
    if unknown:
        sys.exit(f"there is no attack {', '.join(unknown)}; there are: {', '.join(attacks)}")
    through = 0
    for name, (function, test) in attacks.items():
        if only and name not in only:
            continue
        try:
            is_open = function(World())
        except subprocess.TimeoutExpired:
            is_open = True
        through += is_open
        print(f"{name} {'OPEN' if is_open else 'held'} {test}", flush=True)
    say(f"{through} attacks got through")
    sys.exit(1 if through else 0)


main()
