"""A carrier in front of a server: so many bytes of each connection at once, what is more at so many per second.

usage: trickle.py TO_PORT BYTES BYTES_PER_SECOND    (prints its port)
"""
import socket
import sys
import threading
import time

to, free, rate = (int(n) for n in sys.argv[1:])


def carry(source, sink, free):
    try:
        while data := source.recv(max(rate // 20, 1) if free <= 0 else 16384):
            sink.sendall(data)
            free -= len(data)
            if free <= 0:
                time.sleep(0.05)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    near, _ = server.accept()
    try:
        far = socket.create_connection(("127.0.0.1", to))
    except OSError:
        near.close()
        continue
    threading.Thread(target=carry, args=(near, far, 1 << 30), daemon=True).start()
    threading.Thread(target=carry, args=(far, near, free), daemon=True).start()
