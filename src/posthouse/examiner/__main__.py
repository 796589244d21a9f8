"""`python -m posthouse.examiner OCTETS`: started by `clients.examiner` with its socket as standard input.

What cannot be imported or confined is told to the parent in the place of "ready".
"""

import socket
import sys

from posthouse.examiner import frames


def main() -> None:
    end = socket.socket(fileno=0)
    try:
        from posthouse.examiner.carried_out import carry_out_edits, examine
        from posthouse.examiner.serve import serve

        serve(end, int(sys.argv[1]), examine, carry_out_edits)
    except Exception as error:
        document = frames.written({"failed": f"{type(error).__name__}: {error}"[:500]})
        end.sendall(frames.Frame(document).head() + document)
        sys.exit(1)


if __name__ == "__main__":
    main()
