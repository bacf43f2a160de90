import Foundation
import Processes
import Reporting

/// The folder of an embedded cluster, and the paths in it.
struct ClusterFolder: Sendable {
    /// `<state>/cluster`
    let path: String

    var data: String { "\(path)/data" }
    /// The folder in which initdb creates the data. It is renamed to `data` at the end, so that an unfinished cluster
    /// is never mistaken for a finished one.
    var unfinished: String { "\(path)/data.unfinished" }
    var log: String { "\(path)/postgresql.log" }
    var settings: String { "\(path)/reeve.conf" }
    /// A file that all users of the cluster lock in shared mode. The process that stops the cluster locks it in
    /// exclusive mode.
    var holdersLock: String { "\(path)/holders.lock" }
    /// A file that is locked while the cluster is created or started.
    var startLock: String { "\(path)/start.lock" }
    /// A file that is locked by the one process that waits to stop the cluster.
    var watchLock: String { "\(path)/watch.lock" }
    /// A file that marks the folder as created by Reeve. It contains the path of the server programs.
    var marker: String { "\(path)/REEVE-CLUSTER" }
    var pidFile: String { "\(data)/postmaster.pid" }

    /// The folder of the socket. It is in the cluster's folder, or in /tmp if that path would be too long for a socket
    /// (107 bytes, unix(7)).
    var socket: String {
        let inside = "\(path)/run"
        if inside.utf8.count + "/.s.PGSQL.5432.lock".utf8.count <= 107 { return inside }
        return "/tmp/reeve-\(String(UInt64(bitPattern: AdvisoryLock(path).key), radix: 36))"
    }

    /// The major version of PostgreSQL that created the data; nil if there are no data.
    var majorVersion: Int? {
        guard let text = Self.line(of: "\(data)/PG_VERSION") else { return nil }
        return Int(text.trimmingCharacters(in: .whitespacesAndNewlines))
    }

    /// Returns the first line of a small file in a folder of the server's account. Returns nil if the path is not a
    /// regular file, because the account may have replaced the file by something else, such as a link.
    private static func line(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        var bytes = [UInt8](repeating: 0, count: 200)
        let count = read(descriptor, &bytes, bytes.count)
        return bytes.prefix(max(0, count)).split(separator: UInt8(ascii: "\n")).first.map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// - Throws: `EmbeddedClusterError.notOurs` if the folder contains something and was not created by this program.
    func checkOwnership() throws {
        let manager = FileManager.default
        let contents = (try? manager.contentsOfDirectory(atPath: path)) ?? []
        let locks = [startLock, holdersLock, watchLock].map { ($0 as NSString).lastPathComponent }
        if !manager.fileExists(atPath: marker), contents.contains(where: { !locks.contains($0) }) {
            throw EmbeddedClusterError.notOurs(folder: path)
        }
    }

    /// Removes the pid file if the process whose PID is in the file has ended, or if another program now has that PID.
    func removeStalePidFile(as account: ServerAccount) async throws {
        guard let pid = Self.line(of: pidFile).flatMap({ Int32($0) }) else { return }
        let executable = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe")
        let runs = kill(pid, 0) == 0 || errno == EPERM
        if !runs || (executable.map { !$0.contains("postgres") } ?? false) {
            _ = try await account.command("rm", ["-f", "--", pidFile]).run(limit: .seconds(10))
        }
    }

    /// Removes a folder of the server's account, with the rights of that account. Even if the account puts links into
    /// the folder or renames the folder, only files of the account can be removed.
    ///
    /// - Throws: `EmbeddedClusterError.folder` if the folder was not removed completely.
    func removeServersFolder(_ path: String) async throws {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        let clear = ServerAccount.owner(of: status).command(
            "sh", ["-c", #"chmod -R u+rwX -- "$1"; rm -rf -- "$1""#, "sh", path])
        let outcome = try await clear.run(limit: .seconds(600))
        // This process removes the empty folder, because the account may not remove anything from the parent folder.
        if rmdir(path) != 0, errno != ENOENT {
            let reason = String(cString: strerror(errno))
            throw EmbeddedClusterError.folder(path, reason: "\(reason)\n\(outcome.errorOutput)")
        }
    }

    /// Removes the cluster. Its server must have ended.
    ///
    /// - Throws: `EmbeddedClusterError.folder` if the folder was not removed completely.
    func remove() async throws {
        for folder in [data, unfinished, socket] { try await removeServersFolder(folder) }
        // The other files belong to the account of this process, so this process removes them itself.
        let path = path
        try await onOwnThread(named: "removal") {
            do {
                try FileManager.default.removeItem(atPath: path)
            } catch CocoaError.fileNoSuchFile {
                return
            } catch {
                throw EmbeddedClusterError.folder(path, reason: error.localizedDescription)
            }
        }
    }
}

/// The reason why the embedded cluster cannot be used.
public enum EmbeddedClusterError: Error, CustomStringConvertible {
    case noServer
    case notOurs(folder: String)
    case otherVersion(folder: String, made: Int, installed: [Int])
    case folder(String, reason: String)
    case notEnterable(folder: String, user: String)
    case busy(lock: String)
    case program(String, output: String)

    public var description: String {
        switch self {
        case .noServer: "no PostgreSQL server programs are installed"
        case .notOurs(let folder): "the folder \(folder) contains something that is not a cluster of Reeve"
        case .otherVersion(let folder, let made, let installed):
            "the cluster in \(folder) was made by PostgreSQL \(made), but the installed version is \(installed.map(String.init).joined(separator: ", "))"
        case .folder(let path, let reason): "cannot use \(path): \(reason)"
        case .notEnterable(let folder, let user):
            "PostgreSQL does not run as root, and its user '\(user)' cannot access \(folder)"
        case .busy(let lock): "another process is starting or stopping the cluster (\(lock))"
        case .program(let name, let output): "\(name) failed: \(output)"
        }
    }

    public var hint: String? {
        switch self {
        case .noServer: "install it: sudo apt-get install postgresql (or brew install postgresql)"
        case .notOurs: "set REEVE_STATE to another folder, or rename this folder"
        case .otherVersion(_, let made, _):
            "install PostgreSQL \(made), or rename the folder to start with an empty cluster"
        case .folder: "set REEVE_STATE to another folder"
        case .notEnterable: "set REEVE_STATE to a folder that every user may access, for example /var/lib/reeve"
        case .busy: "try again when that process has finished"
        case .program: nil
        }
    }
}

extension EmbeddedClusterError: ReportedError {
    public static let codes = [ErrorCode("embedded_cluster", [.failed], "The embedded PostgreSQL cannot be used.")]

    public var report: ErrorReport { ErrorReport(description, code: "embedded_cluster", hint: hint) }
}
