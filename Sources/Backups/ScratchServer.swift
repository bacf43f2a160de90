import Foundation
import Postgres
import Processes
import SQL
import Storage
import Telemetry

/// A server into which a backup is restored temporarily: a separate cluster that is deleted afterwards, or, if the
/// server's programs are not installed, a scratch database in another server.
struct ScratchServer: Sendable {
    let manifest: Manifest
    /// The folder in which clusters are made.
    let folder: String
    /// The server in which a scratch database is made if the server programs of the backup's version are not installed;
    /// nil: none.
    let beside: ConnectionSettings?
    let logger: Logger

    /// Calls `body` with an empty database that has the encoding and the locale of the backup's source. Removes the
    /// cluster or the scratch database afterwards.
    ///
    /// - Parameters:
    ///   - bytes: the expected size of the contents; 0 if it is not known.
    ///   - body: called with the database, and with whether the server is a separate one, in which roles may be made.
    /// - Throws: `BackupError.noPgDump` if there are neither server programs nor another server; `.noRoom`; the errors
    ///   of `body`.
    func with<T: Sendable>(
        roomFor bytes: Int, _ body: @Sendable (_ target: ConnectionSettings, _ isOwn: Bool) async throws -> T
    ) async throws -> T {
        let programs = await ServerPrograms.installed().first {
            $0.majorVersion == manifest.server / 10000
                && FileManager.default.isExecutableFile(atPath: $0.path("initdb"))
        }
        guard let programs else {
            guard let beside else { throw BackupError.noPgDump(server: manifest.server / 10000) }
            logger.notice(
                "no server programs of the backup's version are installed; using a scratch database on the source's "
                    + "server"
            )
            return try await ScratchDatabase.with(beside: beside, locale: manifest.locale) { try await body($0, false) }
        }
        for abandoned in try await files.call(limit: .seconds(600), { abandonedFolders("restore") }) {
            await remove(abandoned)
        }
        try await files.call(limit: .seconds(600)) {
            // The folders of `PartReader` belong to this account, so they can be removed directly.
            for abandoned in abandonedFolders("parts") { try? FileManager.default.removeItem(atPath: abandoned) }
        }
        try await checkRoom(for: bytes)
        let clusterFolder = "\(folder)/restore-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        do {
            let cluster = try await EmbeddedCluster.acquire(options(clusterFolder, programs), logger: logger)
            do {
                let result = try await body(try await makeDatabase(on: cluster), true)
                await cluster.destroy()
                await remove(clusterFolder)
                return result
            } catch {
                await cluster.destroy()
                throw error
            }
        } catch {
            await remove(clusterFolder)
            throw error
        }
    }

    /// Returns the roles whose code may run in the database during a test. These are all roles if the account of the
    /// server can access nothing else on this machine, and no process of the server outlives it; otherwise those of
    /// `trust`.
    func trust(isOwn: Bool, otherwise trust: CodeTrust) async -> CodeTrust {
        if isOwn, await EmbeddedCluster.canRunApart { return .everybody }
        return trust
    }

    /// The threads for calls on the folder's file system. Such a call may hang.
    private var files: BoundedThreads { BoundedThreads.named(folder) }

    /// Removes the folder of a cluster, because the folder contains restored rows. Tries again after a failure, and
    /// finally logs a warning.
    private func remove(_ clusterFolder: String) async {
        // Runs even if this task is cancelled.
        await Task {
            for attempt in 1... {
                do {
                    try await EmbeddedCluster.remove(EmbeddedCluster.Options(stateFolder: clusterFolder))
                    return try await files.call(limit: .seconds(600)) {
                        if rmdir(clusterFolder) != 0, errno != ENOENT {
                            throw EmbeddedClusterError.folder(
                                clusterFolder, reason: String(cString: strerror(errno)))
                        }
                    }
                } catch {
                    guard attempt < Self.removals else {
                        return logger.warning(
                            "the folder of a scratch server could not be removed; it contains restored rows, so remove "
                                + "it by hand",
                            [LogField("folder", clusterFolder), LogField("reason", "\(error)")])
                    }
                    try? await Task.sleep(for: .seconds(1))
                }
            }
        }.value
    }

    private static let removals = 3

    /// Returns the options of a cluster that is not durable and needs few resources.
    private func options(_ clusterFolder: String, _ programs: ServerPrograms) -> EmbeddedCluster.Options {
        var options = EmbeddedCluster.Options(stateFolder: clusterFolder)
        options.settings = [
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
            "max_wal_senders": "0", "autovacuum": "off", "max_wal_size": "4GB", "maintenance_work_mem": "128MB",
            "shared_buffers": "128MB", "max_connections": "60", "max_locks_per_transaction": "1024",
            // Messages are in English, because errors of programs are classified by the text of their messages.
            "lc_messages": "C",
        ]
        options.programFolders = [programs.folder]
        options.runsApart = true
        return options
    }

    private func makeDatabase(on cluster: EmbeddedCluster) async throws -> ConnectionSettings {
        let (locale, manifest) = (manifest.locale, manifest)
        try await Connection.opened(cluster.settings(database: "postgres")) { connection in
            try await connection.with { connection in
                for name in manifest.tablespaces {
                    // The folder of such a tablespace is inside the cluster. Where the server cannot have one, its
                    // objects go to the default tablespace.
                    _ = try? connection.execute("SET allow_in_place_tablespaces = on")
                    _ = try? connection.execute("CREATE TABLESPACE \(quoteIdentifier(name)) LOCATION ''")
                }
                let create = "CREATE DATABASE restored TEMPLATE template0 "
                do {
                    try connection.execute(create + locale.clause)
                } catch let error as PostgresError where ["42704", "22023", "42809"].contains(error.sqlState) {
                    // Use another locale, because the locale does not change the contents of the rows.
                    logger.warning(
                        "this machine lacks the backup's locale; using C.UTF-8 instead",
                        [LogField("locale", locale.collate)])
                    try connection.execute(
                        create + "ENCODING \(quoteLiteral(locale.encoding)) LC_COLLATE 'C' LC_CTYPE 'C'")
                }
            }
        }
        return cluster.settings(database: "restored")
    }

    /// Returns the folders that ended processes have left behind. The name of such a folder has the form
    /// `KIND-PID-SUFFIX`, and no process has this process ID any more.
    private func abandonedFolders(_ kind: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { name in
            let words = name.split(separator: "-")
            guard words.first == Substring(kind), words.count == 3, let pid = pid_t(words[1]) else { return false }
            return kill(pid, 0) != 0 && errno == ESRCH
        }.map { "\(folder)/\($0)" }
    }

    /// The size of an empty cluster: its template databases and a WAL segment.
    private static let emptyBytes = 40 << 20

    /// Checks that the folder has room for a cluster with contents of this size.
    ///
    /// - Throws: `BackupError.noRoom`, `BoundedThreads.GivenUp`.
    func checkRoom(for bytes: Int) async throws {
        let needed = max(bytes, Self.emptyBytes)
        let free = try await files.call(limit: .seconds(600)) { FolderStore(folder).freeBytes } ?? 0
        guard free > needed else { throw BackupError.noRoom(place: folder, free: free, needed: needed) }
    }
}
