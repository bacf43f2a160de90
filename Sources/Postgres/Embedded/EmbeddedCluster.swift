import Foundation
import Processes
import SQL
import Telemetry

/// A PostgreSQL cluster that belongs to this program. It is created in a state folder, and reachable only through a
/// Unix socket.
///
/// A value of this type keeps the cluster running by holding the holders' lock, in shared mode. A separate process
/// waits until no process holds that lock in shared mode any more, because each holder has released the lock or has
/// ended for any reason. The separate process then stops the cluster.
public final class EmbeddedCluster: Sendable {
    public struct Options: Sendable {
        /// The folder that contains the folder `cluster`.
        public var stateFolder: String
        /// The database that is created on first use.
        public var database = "reeve"
        /// Further server settings, for instance `fsync` off in tests.
        public var settings: [String: String] = [:]
        public var startTimeout: Duration = .seconds(60)
        /// The folders in which the server programs are searched. nil: the folders of the distributions' packages, and
        /// PATH.
        public var programFolders: [String]?
        /// Whether root runs the server apart from other servers, for untrusted code. The server then runs under an
        /// account that runs no other server, if there is such an account. It also runs in its own namespaces, if they
        /// can be created (`canRunApart`): everything that the server started ends with the server, and the server sees
        /// nothing else in the folder that contains `stateFolder`.
        public var runsApart = false

        public init(stateFolder: String) { self.stateFolder = stateFolder }
    }

    private let folder: ClusterFolder
    private let options: Options
    private let holder: FileLock
    /// The server, if it runs apart.
    private let isolated: IsolatedServer?
    /// Whether the call of `acquire` that returned this value created the cluster. The caller may then want to fill it.
    public let wasCreated: Bool

    private init(
        folder: ClusterFolder, options: Options, holder: FileLock, isolated: IsolatedServer? = nil, wasCreated: Bool
    ) {
        self.folder = folder
        self.options = options
        self.holder = holder
        self.isolated = isolated
        self.wasCreated = wasCreated
    }

    /// Whether this machine supports `Options.runsApart` completely: no process outlives the server, and the server
    /// cannot reach other servers or their files.
    public static var canRunApart: Bool {
        get async {
            guard ServerAccount.current(isApart: true).user == ServerAccount.unused else { return false }
            return await IsolatedServer.isPossible
        }
    }

    /// Returns the settings for connections to a database of the cluster, as its superuser.
    public func settings(database: String? = nil) -> ConnectionSettings {
        Self.settings(folder, database ?? options.database)
    }

    /// Returns the settings for connections to a cluster that may not be running.
    public static func settings(for options: Options) -> ConnectionSettings {
        settings(folder(of: options), options.database)
    }

    private static func settings(_ folder: ClusterFolder, _ database: String) -> ConnectionSettings {
        ConnectionSettings(parameters: [
            "host": folder.socket, "port": "5432", "user": "postgres", "dbname": database,
        ])
    }

    private static func folder(of options: Options) -> ClusterFolder {
        let state = URL(fileURLWithPath: options.stateFolder)
        return ClusterFolder(path: state.appendingPathComponent("cluster").standardizedFileURL.path)
    }

    /// Returns the running cluster. Starts it if it is not running, and creates it first if it does not exist.
    ///
    /// - Throws: `EmbeddedClusterError`, `CommandError`, `PostgresError`.
    public static func acquire(_ options: Options, logger: Logger = .silent) async throws -> EmbeddedCluster {
        let folder = folder(of: options)
        let account = ServerAccount.current(isApart: options.runsApart)
        try prepare(folder, account)
        // Only one process at a time creates or starts the cluster. The shared lock is acquired first, so that no
        // process stops the cluster while this process starts or uses it.
        let (starting, holder) = try await onOwnThread(named: "cluster lock") {
            let starting = try FileLock(folder.startLock, .exclusive, limit: options.startTimeout)
            return (starting, try FileLock(folder.holdersLock, .shared, limit: options.startTimeout))
        }
        defer { withExtendedLifetime(starting) {} }
        if options.runsApart, await canRunApart {
            let server = ClusterServer(folder: folder, account: account, options: options, logger: logger)
            return try await startIsolated(server, holder)
        }
        var cluster = EmbeddedCluster(folder: folder, options: options, holder: holder, wasCreated: false)
        if try await cluster.isAnswering() {
            logger.debug("found the embedded PostgreSQL running", [LogField("folder", folder.path)])
            try startWatcher(folder, account)
        } else {
            let server = ClusterServer(folder: folder, account: account, options: options, logger: logger)
            let created = try await server.start { try startWatcher(folder, account) }
            cluster = EmbeddedCluster(folder: folder, options: options, holder: holder, wasCreated: created)
        }
        try await cluster.makeDatabase()
        return cluster
    }

    private static func startIsolated(_ server: ClusterServer, _ holder: FileLock) async throws -> EmbeddedCluster {
        let (folder, options) = (server.folder, server.options)
        let isolated = try await server.startIsolated()
        let cluster = EmbeddedCluster(
            folder: folder, options: options, holder: holder, isolated: isolated, wasCreated: true)
        do {
            let end = ContinuousClock.now + options.startTimeout
            while !(try await cluster.isAnswering()) {
                if isolated.hasEnded || ContinuousClock.now >= end {
                    throw EmbeddedClusterError.program("postgres", output: "it does not answer" + server.logTail())
                }
                try await Task.sleep(for: .milliseconds(20))
            }
            try await cluster.makeDatabase()
            return cluster
        } catch {
            await cluster.stop()
            throw error
        }
    }

    /// Stops the server immediately and removes the folder, for temporary clusters. If some files cannot be removed,
    /// they remain, and no error is thrown.
    public func destroy() async {
        await stop()
        // The folder is removed in a separate task. The current task may be cancelled, but the folder must be removed
        // together with its server.
        await Task { [folder] in try? await folder.remove() }.value
    }

    private func stop() async {
        if let isolated {
            holder.release()
            await isolated.end()
        } else if let programs = try? String(contentsOfFile: folder.marker, encoding: .utf8) {
            let bin = programs.trimmingCharacters(in: .whitespacesAndNewlines)
            let stop = ServerAccount.current(isApart: options.runsApart).command(
                "\(bin)/pg_ctl", ["stop", "-D", folder.data, "-m", "immediate", "-w", "-t", "30", "-s"])
            await Task { _ = try? await stop.run(limit: .seconds(40)) }.value
        }
    }

    /// Removes the folder of a cluster whose server has ended, if the folder exists.
    ///
    /// - Throws: `EmbeddedClusterError.folder` if the folder was not removed completely.
    public static func remove(_ options: Options) async throws { try await folder(of: options).remove() }

    private static func prepare(_ folder: ClusterFolder, _ account: ServerAccount) throws {
        try StateFolder.make(folder.path)
        try folder.checkOwnership()
        try account.checkEntry(to: folder.path)
    }

    /// Starts a watcher, a process that outlives the current process. The watcher waits until no process holds the
    /// cluster, and then stops the server.
    ///
    /// Only one watcher waits at a time. A second watcher waits for its turn for 5 seconds, in case the first watcher
    /// is about to end, and then gives up. Stopping the server is tried up to five times, because a server whose
    /// starter was killed may still be about to start.
    private static func startWatcher(_ folder: ClusterFolder, _ account: ServerAccount) throws {
        guard let programs = try? String(contentsOfFile: folder.marker, encoding: .utf8) else { return }
        let bin = programs.trimmingCharacters(in: .whitespacesAndNewlines)
        let stop = account.command("\(bin)/pg_ctl", ["stop", "-D", folder.data, "-m", "fast", "-w", "-t", "60", "-s"])
        let script = #"d=$1; shift; for i in 1 2 3 4 5; do [ -d "$d" ] || exit 0; "$@" && exit 0; sleep 1; done"#
        let arguments =
            ["-w", "5", folder.watchLock, "flock", "-x", folder.holdersLock, "sh", "-c", script, "sh", folder.data]
            + [stop.program] + stop.arguments
        _ = try ChildProcess(Command("flock", arguments), newSession: true)
    }

    /// Returns whether a server answers on the socket, and whether that server uses the data in this folder.
    private func isAnswering() async throws -> Bool {
        guard FileManager.default.fileExists(atPath: "\(folder.socket)/.s.PGSQL.5432") else { return false }
        guard let connection = try? await Connection.open(settings(database: "postgres")) else { return false }
        let directory = try await connection.with { try $0.query("SHOW data_directory").first?.get(0, as: String.self) }
        await connection.close()
        let found = directory.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
        return found == URL(fileURLWithPath: folder.data).resolvingSymlinksInPath().path
    }

    private func makeDatabase() async throws {
        let name = options.database
        try await Connection.opened(settings(database: "postgres")) { connection in
            try await connection.with { connection in
                let there = try connection.query("SELECT 1 FROM pg_database WHERE datname = $1", [name])
                if there.isEmpty {
                    try connection.execute(
                        "CREATE DATABASE \(quoteIdentifier(name)) ENCODING 'UTF8' TEMPLATE template0")
                }
            }
        }
    }
}
