import Foundation
import Processes

/// A server in namespaces of its own, for code that nobody vouches for.
///
/// Whatever it starts ends with it, however it was detached: the first process of the PID namespace is a shell of root's,
/// and the kernel kills all others when that one ends. It ends when the server does, or when nobody holds the cluster any
/// more. Nothing in it reaches the network, sees other processes, or finds the files of another such server: an empty file
/// system covers each place where they could meet.
struct IsolatedServer: Sendable {
    private let process: ChildProcess

    /// - Parameters:
    ///   - command: the server, as the account that it runs under.
    ///   - folder: the cluster's, and with `hidden` all that is left of what lies in there.
    ///   - log: takes what the server says.
    init(_ command: Command, in folder: ClusterFolder, hiding hidden: String, log: Int32?) throws {
        process = try ChildProcess(
            Self.isolated(
                command, folder: folder.path, socket: folder.socket, lock: folder.holdersLock, hidden: hidden),
            error: log, newSession: true)
    }

    var hasEnded: Bool { process.ending != nil }

    /// Waits until nothing of it runs any more; its holder has let go of the lock before.
    func end() async {
        // In a task of its own, for this one may be cancelled.
        await Task {
            if await ends(within: .seconds(30)) { return }
            // Takes the first process of the namespace along.
            process.signal(SIGKILL)
            _ = await ends(within: .seconds(10))
        }.value
    }

    private func ends(within limit: Duration) async -> Bool {
        let end = ContinuousClock.now + limit
        while !hasEnded, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(10)) }
        return hasEnded
    }

    /// The first process of the namespaces. The folders are opened before they are covered.
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

    /// Whether this process may make such namespaces here: root outside of most containers, on Linux.
    static var isPossible: Bool { get async { await probe.value } }

    /// Tries it with a program that does nothing but say so.
    private static let probe = Task {
        guard geteuid() == 0 else { return false }
        var template = Array("/tmp/reeve-probe-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return false }
        let hidden = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let inner = "\(hidden)/inner"
        defer { for path in ["\(inner)/lock", inner, hidden] { remove(path) } }
        // Held while the program runs.
        guard mkdir(inner, 0o755) == 0, let lock = try? FileLock("\(inner)/lock", .shared, limit: .zero) else {
            return false
        }
        defer { lock.release() }
        let word = ServerAccount.current(isApart: true).command("printf", ["apart"])
        let trial = isolated(word, folder: inner, socket: inner, lock: "\(inner)/lock", hidden: hidden)
        return (try? await trial.run(limit: .seconds(10)))?.output == "apart"
    }
}
