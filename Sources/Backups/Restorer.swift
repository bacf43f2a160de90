import Catalog
import Foundation
import Ledger
import Postgres
import Processes
import Storage
import Telemetry

/// Brings a backup back into a database.
///
/// Every part is hashed while it is read, and a part that is not what was written fails the restore, whatever pg_restore
/// made of it.
public struct Restorer: Sendable {
    public struct Settings: Sendable {
        /// The file with the age identity; needed for an encrypted backup.
        public var identity: String?
        public var jobs = 2
        /// Whether to make the roles that are missing.
        public var makesRoles = false
        /// Where the script of indexes and constraints lies while it is restored; it holds no rows.
        public var temporaryFolder = NSTemporaryDirectory()

        public init() {}
    }

    let repository: Repository
    let manifest: Manifest
    let settings: Settings
    let logger: Logger

    public init(repository: Repository, manifest: Manifest, settings: Settings, logger: Logger = .silent) {
        self.repository = repository
        self.manifest = manifest
        self.settings = settings
        self.logger = logger
    }

    /// Restores everything into a database that is empty.
    ///
    /// - Parameter progress: is told of each part that is done.
    /// - Throws: `BackupError`, `PipelineError`, `PostgresError`, `StorageError`.
    public func restore(
        into target: ConnectionSettings, progress: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws {
        if !manifest.recipients.isEmpty, settings.identity == nil { throw BackupError.needsIdentity(id: manifest.id) }
        try await BackupTools.check(encrypts: !manifest.recipients.isEmpty)
        let tools = try await BackupTools.dumping(server: manifest.server)
        if settings.makesRoles { try await makeRoles(target) }
        try await guarded(target) {
            for part in manifest.parts where part.kind == .before {
                try await restore(part, into: target, tools, progress)
            }
            try await restoreData(into: target, tools, progress)
            try await restoreAfter(into: target, tools, progress)
            try await applySettings(target)
        }
    }

    /// Keeps sessions out that are not a superuser's, until everything is there.
    private func guarded(_ target: ConnectionSettings, _ body: () async throws -> Void) async throws {
        let (name, isSuperuser) = try await Connection.opened(target) { connection in
            try await connection.with { connection in
                let row = try connection.query(
                    "SELECT current_database()::text, rolsuper FROM pg_roles WHERE rolname = current_user"
                ).first
                return (try row?.get(0, as: String.self) ?? "", try row?.get(1, as: Bool.self) ?? false)
            }
        }
        // Others than superusers would keep themselves out.
        guard isSuperuser else { return try await body() }
        try await limitSessions(of: name, to: 0, target)
        try await body()
        try await limitSessions(of: name, to: -1, target)
    }

    private func limitSessions(of name: String, to number: Int, _ target: ConnectionSettings) async throws {
        try await Connection.opened(target) { connection in
            try await connection.with {
                _ = try $0.execute("ALTER DATABASE \(quoteIdentifier(name)) CONNECTION LIMIT \(number)")
            }
        }
    }

    // MARK: Parts

    /// The text of a part.
    func text(of part: Manifest.Part) async throws -> String {
        let gathered = Gathered()
        try await unpack(part) { gathered.bytes += $0 }
        return String(decoding: gathered.bytes, as: UTF8.self)
    }

    /// Sends a part through the programs that unpack it, and through more; whatever these make of it, a part that is not
    /// what was written is an error.
    private func unpack(
        _ part: Manifest.Part, through more: [Command] = [],
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let reader = try CheckedReader(part, in: repository.store)
        do {
            try await Pipeline(unpacking + more).run(source: { try reader.next() }, take: take)
            // A program may be content before the end; the rest is read for its hash.
            while try reader.next() != nil {}
        } catch let error as PipelineError {
            while try reader.next() != nil {}
            if error.program == "age" {
                throw BackupError.cannotOpen(object: part.object, reason: error.description)
            }
            throw BackupError.part(object: part.object, reason: error.description)
        }
    }

    /// Filled by the pipeline's thread, and read when that has ended.
    private final class Gathered: @unchecked Sendable {
        var bytes: [UInt8] = []
    }

    private var unpacking: [Command] {
        BackupTools.unpacking(settings.identity, isEncrypted: !manifest.recipients.isEmpty)
    }

    private func restore(
        _ part: Manifest.Part, into target: ConnectionSettings, _ tools: BackupTools,
        _ progress: @Sendable (String) -> Void
    ) async throws {
        let restore = tools.command("pg_restore", ["--exit-on-error", "--no-tablespaces", "-Fc"], on: target)
        try await unpack(part, through: [restore]) { _ in }
        progress(part.object)
    }

    private func restoreData(
        into target: ConnectionSettings, _ tools: BackupTools, _ progress: @escaping @Sendable (String) -> Void
    ) async throws {
        let kinds: [Manifest.Part.Kind] = [.data, .sequences, .largeObjects]
        let parts = manifest.parts.filter { kinds.contains($0.kind) }.sorted { $0.bytes > $1.bytes }
        let queue = SharedQueue(parts)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, settings.jobs) {
                group.addTask {
                    while let part = queue.next() {
                        try Task.checkCancellation()
                        try await restore(part, into: target, tools, progress)
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// Indexes and constraints are made by several at once, for which pg_restore wants a file.
    private func restoreAfter(
        into target: ConnectionSettings, _ tools: BackupTools, _ progress: @Sendable (String) -> Void
    ) async throws {
        for part in manifest.parts where part.kind == .after {
            let path = "\(settings.temporaryFolder)/reeve-restore-\(UUID().uuidString)"
            let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else {
                throw StorageError.failed(operation: "write", object: path, reason: String(cString: strerror(errno)))
            }
            defer {
                close(descriptor)
                unlink(path)
            }
            let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
            try await unpack(part) { try file.write(contentsOf: Data($0)) }
            let command = tools.command(
                "pg_restore",
                ["--exit-on-error", "--no-tablespaces", "-Fc", "-j", String(max(1, settings.jobs)), path],
                on: target)
            do {
                try await Pipeline([command]).run { _ in }
            } catch let error as PipelineError {
                throw BackupError.part(object: part.object, reason: error.description)
            }
            progress(part.object)
        }
    }

    // MARK: Roles and settings

    /// Makes the roles; those that are there already get the attributes of the backup.
    private func makeRoles(_ target: ConnectionSettings) async throws {
        for part in manifest.parts where part.kind == .roles {
            let script = try await text(of: part)
            let bytes = Array(script.utf8)
            let statements = try SQLLexer.split(bytes, file: part.object).map {
                String(decoding: bytes[$0.range], as: UTF8.self)
            }
            try await Connection.opened(target) { connection in
                try await connection.with { connection in
                    for statement in statements {
                        do {
                            try connection.execute(statement)
                        } catch let error as PostgresError where error.sqlState == "42710" {
                            continue  // it is there
                        }
                    }
                }
            }
        }
    }

    private func applySettings(_ target: ConnectionSettings) async throws {
        let statements = manifest.settings
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
                for statement in statements {
                    try connection.execute(statement.replacing("%database%", with: quoteIdentifier(name)))
                }
            }
        }
    }
}
