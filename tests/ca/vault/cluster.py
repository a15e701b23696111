"""Three OpenBao servers of one raft cluster on 127.0.0.1, and a load balancer in front of them.

The declared audit device must have one path on all nodes, or a standby can never become active; so
they write to one file. Elections are as quick as is recommended for production
(`performance_multiplier = 1`), not as the default has them, which is meant for the smallest
machines. A node that is started again is sealed, as after a reboot.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from meshca.demo.ports import free_port
from tests.openbao import ROOT_TOKEN, OpenBao
from tests.real_parts import wait_until

ACTIVE, STANDBY, UNINITIALIZED, SEALED = 200, 429, 501, 503
_WHOLE_SECONDS = 30.0


class Node(OpenBao):
    """One server that keeps its data over restarts, and is sealed after each."""

    def __init__(self, directory: Path, *, audit: Path, join: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self.audit = audit
        self.join = join
        self.cluster_port = 0

    @property
    def arguments(self) -> list[str]:
        """Return how the program is called."""
        return ["server", "-config=node.hcl", "-log-level=warn"]

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not self.cluster_port:
            self.cluster_port = free_port()
            (self.directory / "raft").mkdir(parents=True)
            (self.directory / "node.hcl").write_text(self._configuration())
        self.spawn()
        self.wait_until_health({SEALED, UNINITIALIZED})

    def follows(self) -> str:
        """Return the address of the leader that it knows, empty if it knows none."""
        return str(self.call("GET", "sys/leader", token="").get("leader_address", ""))

    def _configuration(self) -> str:
        joins = "".join(f'  retry_join {{ leader_api_addr = "{a}" }}\n' for a in self.join)
        return f"""\
storage "raft" {{
  path = "{self.directory / "raft"}"
  node_id = "{self.directory.name}"
  performance_multiplier = 1
{joins}}}
listener "tcp" {{
  address = "127.0.0.1:{self.port}"
  cluster_address = "127.0.0.1:{self.cluster_port}"
  tls_disable = true
}}
api_addr = "{self.address}"
cluster_addr = "https://127.0.0.1:{self.cluster_port}"
audit "file" "file" {{ options = {{ file_path = "{self.audit}" }} }}
"""


class Cluster:
    """Three nodes; which of them leads may change at any time."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self._key = ""

    @property
    def leader(self) -> Node:
        """Return the active node."""
        return next(node for node in self.nodes if node.health() == ACTIVE)

    @property
    def standbys(self) -> tuple[Node, Node]:
        """Return the two others, in a whole cluster."""
        first, second = (node for node in self.nodes if node.health() == STANDBY)
        return first, second

    def initialize(self) -> None:
        """Make the cluster, with one key that unseals all; the root token is ROOT_TOKEN."""
        first, *others = self.nodes
        made = first.call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
        (self._key,) = made["keys_base64"]
        self.unseal(first)
        first.wait_until_health({ACTIVE})
        token = {"id": ROOT_TOKEN, "policies": ["root"], "no_parent": True}
        first.call("POST", "auth/token/create", token, token=made["root_token"])
        quick = {"server_stabilization_time": "1s"}
        first.call("POST", "sys/storage/raft/autopilot/configuration", quick)
        for node in others:
            node.wait_until_health({SEALED})
            self.unseal(node)
        self.wait_until_whole()

    def unseal(self, node: Node) -> None:
        """Give a node the key."""
        node.call("PUT", "sys/unseal", {"key": self._key}, token="")

    def mend(self) -> None:
        """Bring back every node that is away or sealed."""
        for node in self.nodes:
            if node.health() == 0:
                node.stop()
                node.start()
            if node.health() == SEALED:
                self.unseal(node)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until one leads two, and all three vote: any one may then be lost."""
        wait_until(self._is_whole, within_seconds=_WHOLE_SECONDS, what="the cluster is whole")

    def wait_for_leader(self) -> None:
        """Wait until one leads, and all that are not away know it."""
        wait_until(self._is_led, within_seconds=_WHOLE_SECONDS, what="the cluster has a leader")

    def _is_led(self) -> bool:
        found = [node for node in self.nodes if node.health() in (ACTIVE, STANDBY)]
        active = [node.address for node in found if node.health() == ACTIVE]
        return len(active) == 1 and all(node.follows() == active[0] for node in found)

    def _is_whole(self) -> bool:
        if not self._is_led() or [node.health() for node in self.nodes].count(STANDBY) != 2:
            return False
        answer = self.leader.call("GET", "sys/storage/raft/configuration")
        return [peer["voter"] for peer in answer["data"]["config"]["servers"]] == [True] * 3


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Run a whole cluster until the `with` ends; all it writes is in `directory`."""
    with ExitStack() as stack:
        nodes: list[Node] = []
        for name in ("a", "b", "c"):
            join = [node.address for node in nodes[:1]]
            node = Node(directory / name, audit=directory / "audit.log", join=join)
            nodes.append(stack.enter_context(node))
        cluster = Cluster(nodes)
        cluster.initialize()
        yield cluster
