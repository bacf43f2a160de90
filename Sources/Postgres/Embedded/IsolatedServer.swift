import Foundation
import Processes

/// A server in its own namespaces, for untrusted code.
///
/// All processes that the server starts end with the server, even if they are detached. The first process of the PID
/// namespace is a shell that runs as root, and the kernel kills all other processes of the namespace when that shell
/// ends. The shell ends when the server ends, or when no process holds the cluster any more. Processes in the
/// namespaces cannot reach the network, see other processes, or find the files of another isolated server: an empty
/// file system is mounted on each folder that both servers could use.
struct IsolatedServer: Sendable {
    private let process: ChildProcess

    /// - Parameters:
    ///   - command: the command that runs the server under its account.
    ///   - folder: the folder of the cluster.
    ///   - hidden: a folder that appears to be empty to the server, except for the cluster's folder.
    ///   - log: a descriptor for the standard error of the server; nil: it is discarded.
    init(_ command: Command, in folder: ClusterFolder, hiding hidden: String, log: Int32?) throws {
        process = try ChildProcess(
            Self.isolated(
                command, folder: folder.path, socket: folder.socket, lock: folder.holdersLock, hidden: hidden),
            error: log, newSession: true)
    }

    var hasEnded: Bool { process.ending != nil }

    /// Waits until no process of the server runs any more. The caller must have released the holders' lock.
    func end() async {
        // The wait is in a separate task, because the current task may be cancelled.
        await Task {
            if await ends(within: .seconds(30)) { return }
            // `process` is `unshare --kill-child`, so this also kills the first process of the namespace.
            process.signal(SIGKILL)
            _ = await ends(within: .seconds(10))
        }.value
    }

    private func ends(within limit: Duration) async -> Bool {
        let end = ContinuousClock.now + limit
        while !hasEnded, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(10)) }
        return hasEnded
    }

    /// The script of the first process of the namespaces. It mounts empty file systems over shared folders. It opens
    /// the cluster's folders before, and then mounts the open folders at their places again.
    private static let script = #"""
        set -e
        folder=$1 socket=$2 lock=$3 hidden=$4; shift 4
        exec 3<"$folder" 4<"$socket" 5<"$lock"
        for shared in /tmp /var/tmp /dev/shm; do
            [ ! -d "$shared" ] || mount -t tmpfs -o mode=1777 tmpfs "$shared"
        done
        mkdir -p "$hidden"; mount -t tmpfs -o mode=755 tmpfs "$hidden"
        mkdir -p "$folder"; mount -c --bind /proc/self/fd/3 "$folder"
        mkdir -p "$socket"; mount -c --bind /proc/self/fd/4 "$socket"
        exec 3<&- 4<&-
        flock -x 5 & holders=$!
        { exec 5<&-; "$@" || :; kill "$holders"; } &
        wait "$holders"
        """#

    private static func isolated(
        _ command: Command, folder: String, socket: String, lock: String, hidden: String
    ) -> Command {
        let namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--"]
        return Command(
            "unshare",
            namespaces + ["sh", "-c", script, "sh", folder, socket, lock, hidden]
                + ["setpriv", "--no-new-privs", "--", command.program] + command.arguments)
    }

    /// Whether this process can create the namespaces. It can as root on Linux, outside of most containers.
    static var isPossible: Bool { get async { await probe.value } }

    /// Whether a test program, which only prints a word, could be run in the namespaces.
    private static let probe = Task {
        guard geteuid() == 0 else { return false }
        var template = Array("/tmp/reeve-probe-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return false }
        let hidden = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let inner = "\(hidden)/inner"
        defer { for path in ["\(inner)/lock", inner, hidden] { remove(path) } }
        // This lock is held while the program runs, because the script ends when no process holds the lock.
        guard mkdir(inner, 0o755) == 0, let lock = try? FileLock("\(inner)/lock", .shared, limit: .zero) else {
            return false
        }
        defer { lock.release() }
        let word = ServerAccount.current(isApart: true).command("printf", ["apart"])
        let trial = isolated(word, folder: inner, socket: inner, lock: "\(inner)/lock", hidden: hidden)
        return (try? await trial.run(limit: .seconds(10)))?.output == "apart"
    }
}
