"""Attacks by clients of the service, and by users who inspect its processes."""
import os, socket, subprocess, sys, time
from world import attack, reeve


@attack("SecretTests")
def environment_of_the_embedded_server(world):
    state = f"{world.state}/own"
    clean = {k: v for k, v in world.environment().items() if k not in ("DATABASE_URL",)}
    # Uses a command of the program that runs a statement as the superuser.
    folder = world.system("CREATE TABLE env (line text); COPY env FROM PROGRAM 'env';")
    subprocess.run(
        [reeve, "migrate", "up", "--system", folder], capture_output=True, stdin=subprocess.DEVNULL,
        env=clean | {"REEVE_STATE": state, "AWS_SECRET_ACCESS_KEY": "s3cr3t"})
    done = subprocess.run(
        [reeve, "database", "url"], capture_output=True, text=True, env=clean | {"REEVE_STATE": state})
    service = subprocess.Popen(
        [reeve, "serve"], env=clean | {"REEVE_STATE": state, "REEVE_HTTP_LISTEN": "off"}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            read = subprocess.run(
                ["psql", "-XqAt", done.stdout.strip(), "-c", "TABLE public.env"], capture_output=True, text=True)
            if read.returncode == 0:
                return "s3cr3t" in read.stdout
            time.sleep(0.1)
        sys.exit("the embedded server did not answer")
    finally:
        service.terminate()
        service.wait()


def serve(world, **environment):
    return subprocess.Popen(
        [reeve, "serve"], env=world.environment(**environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answer(port, host, path="/livez", limit=5):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=limit) as one:
            one.settimeout(limit)
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return one.recv(64).decode().split(" ")[1]
    except (OSError, IndexError):
        return None


def wait_for(port):
    for _ in range(300):
        if answer(port, f"127.0.0.1:{port}", limit=1):
            return
        time.sleep(0.1)
    sys.exit("the service did not answer")


@attack("UnixSocketTests")
def file_in_the_place_of_the_socket(world):
    path = f"{world.state}/precious"
    open(path, "w").write("precious")
    service = serve(world, REEVE_HTTP_LISTEN=f"unix:{path}")
    time.sleep(3)
    service.terminate()
    service.wait()
    return not os.path.isfile(path) or open(path).read() != "precious"


@attack("HostTests")
def listening_for_other_machines(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"0.0.0.0:{port}")
    found = None
    for _ in range(50):
        found = found or answer(port, f"127.0.0.1:{port}", limit=1)
        time.sleep(0.1)
    service.terminate()
    service.wait()
    return found is not None


@attack("HostTests")
def rebinding(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"127.0.0.1:{port}")
    wait_for(port)
    found = answer(port, "evil.example")
    service.terminate()
    service.wait()
    return found == "200"


@attack("SlowClientTests")
def silent_clients(world):
    port = free_port()
    service = serve(world, REEVE_HTTP_LISTEN=f"127.0.0.1:{port}")
    wait_for(port)
    held = []
    for _ in range(1200):
        try:
            one = socket.create_connection(("127.0.0.1", port), timeout=1)
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: ")
            held.append(one)
        except OSError:
            break
    found = answer(port, f"127.0.0.1:{port}")
    for one in held:
        one.close()
    service.terminate()
    service.wait()
    return found != "200"
