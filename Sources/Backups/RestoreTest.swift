import Catalog
import Foundation
import Hashing
import Ledger
import Postgres
import Storage
import Telemetry

/// One way in which a restored database is not what was backed up.
public struct RestoreDifference: Sendable, Equatable, Codable {
    /// `table`, `sequence`, `large objects`, `role`, `check`, or the kind of a schema's object.
    public let kind: String
    public let object: String
    public let expected: String
    public let found: String
}

/// What a restore test showed.
public struct Proof: Sendable, Equatable, Codable {
    public let backup: String
    public let isProved: Bool
    public let tables: Int
    public let differences: [RestoreDifference]
    /// How long the restore took, without making the cluster and comparing: what a real one would take here.
    public let restoreSeconds: Double
    public let testedAt: String
    public let server: Int
}

/// Restores a backup into a cluster of its own that is thrown away after, and compares everything that the manifest
/// holds.
public struct RestoreTest: Sendable {
    let repository: Repository
    let manifest: Manifest
    let settings: Restorer.Settings
    /// Where the scratch cluster is made.
    let folder: String
    /// Statements by name, each of which gives no row when it holds.
    let checks: [(name: String, sql: String)]
    let logger: Logger

    public init(
        repository: Repository, manifest: Manifest, settings: Restorer.Settings, folder: String,
        checks: [(name: String, sql: String)] = [], logger: Logger = .silent
    ) {
        self.repository = repository
        self.manifest = manifest
        var settings = settings
        settings.makesRoles = true
        self.settings = settings
        self.folder = folder
        self.checks = checks
        self.logger = logger
    }

    /// Restores, compares, and writes the result beside the backup.
    ///
    /// - Throws: `BackupError`, `EmbeddedClusterError` and others where it could not be tried; a backup that does not
    ///   restore, or not to what it was, is a result.
    public func run(progress: @escaping @Sendable (String) -> Void = { _ in }) async throws -> Proof {
        if !manifest.recipients.isEmpty, settings.identity == nil { throw BackupError.needsIdentity(id: manifest.id) }
        defer { try? FileManager.default.removeItem(atPath: "\(folder)/restore-\(manifest.id)") }
        let cluster = try await makeCluster()
        let target = cluster.settings()
        let proof: Proof
        do {
            proof = try await restoreAndCompare(target, progress)
            await cluster.destroy()
        } catch {
            await cluster.destroy()
            throw error
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try repository.write(Array(try encoder.encode(proof)), to: "\(manifest.prefix)/\(Proof.name)")
        return proof
    }

    /// Durable for nobody: it is thrown away whatever happens.
    private func makeCluster() async throws -> EmbeddedCluster {
        let programs = await ServerPrograms.installed().filter { $0.majorVersion == manifest.server / 10000 }
        var options = EmbeddedCluster.Options(stateFolder: "\(folder)/restore-\(manifest.id)")
        options.database = "restored"
        options.settings = [
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
            "max_wal_senders": "0", "autovacuum": "off", "max_wal_size": "4GB", "maintenance_work_mem": "128MB",
        ]
        if let folder = programs.first?.folder { options.programFolders = [folder] }
        return try await EmbeddedCluster.acquire(options, logger: logger)
    }

    private func restoreAndCompare(
        _ target: ConnectionSettings, _ progress: @escaping @Sendable (String) -> Void
    ) async throws -> Proof {
        let restorer = Restorer(repository: repository, manifest: manifest, settings: settings, logger: logger)
        let began = ContinuousClock.now
        var differences: [RestoreDifference]
        var seconds = 0.0
        do {
            try await restorer.restore(into: target, progress: progress)
            seconds = (ContinuousClock.now - began).inSeconds
            differences = try await Comparison(manifest: manifest, restorer: restorer, target: target).differences()
            differences += try await runChecks(target)
        } catch let error as BackupError {
            guard case .part(let object, let reason) = error else { throw error }
            differences = [RestoreDifference(kind: "part", object: object, expected: "restores", found: reason)]
        }
        return Proof(
            backup: manifest.id, isProved: differences.isEmpty, tables: manifest.tables.count, differences: differences,
            restoreSeconds: seconds,
            testedAt: Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000)).rfc3339,
            server: manifest.server)
    }

    private func runChecks(_ target: ConnectionSettings) async throws -> [RestoreDifference] {
        let checks = checks
        return try await Connection.opened(target.named("reeve restore test")) { connection in
            try await connection.with { connection in
                try connection.execute("ANALYZE")
                var differences: [RestoreDifference] = []
                for (name, sql) in checks {
                    do {
                        let rows = try connection.query(sql)
                        if !rows.isEmpty {
                            differences.append(
                                RestoreDifference(
                                    kind: "check", object: name, expected: "no row", found: "\(rows.count) rows"))
                        }
                    } catch let error as PostgresError where error.kind == .server {
                        differences.append(
                            RestoreDifference(kind: "check", object: name, expected: "no row", found: error.message))
                    }
                }
                return differences
            }
        }
    }
}

extension Proof {
    static let name = "proof.json"

    /// The result of the newest test of a backup; nil when it was never tested.
    public static func read(_ manifest: Manifest, in repository: Repository) throws -> Proof? {
        do {
            let bytes = try repository.bytes(of: "\(manifest.prefix)/\(name)")
            return try? JSONDecoder().decode(Proof.self, from: Data(bytes))
        } catch StorageError.missing {
            return nil
        }
    }
}

/// Compares a database with what a manifest says.
struct Comparison: Sendable {
    let manifest: Manifest
    let restorer: Restorer
    let target: ConnectionSettings

    func differences() async throws -> [RestoreDifference] {
        var result = try await tables()
        result += try await Connection.opened(target.named("reeve restore test")) { connection in
            try await connection.with { try others(on: $0) }
        }
        return result + (try await schema())
    }

    private func tables() async throws -> [RestoreDifference] {
        let relations = try await Connection.opened(target) { connection in
            try await connection.with { try DatabaseContent.relations(on: $0) }
        }
        let queue = SharedQueue(relations.filter(\.hasRows).sorted { $0.bytes > $1.bytes })
        let found = try await withThrowingTaskGroup(of: [Manifest.Table].self) { group in
            for _ in 0..<max(1, restorer.settings.jobs) {
                group.addTask {
                    try await Connection.opened(target.named("reeve restore test")) { connection in
                        try await connection.with { connection in
                            var done: [Manifest.Table] = []
                            while let relation = queue.next() {
                                done.append(
                                    try connection.transaction {
                                        try DatabaseContent.fingerprint(relation, on: connection)
                                    })
                            }
                            return done
                        }
                    }
                }
            }
            var all: [String: Manifest.Table] = [:]
            for try await some in group { for one in some { all["\(one.schema).\(one.name)"] = one } }
            return all
        }
        return manifest.tables.compactMap { table in
            let name = "\(table.schema).\(table.name)"
            guard let other = found[name] else {
                return RestoreDifference(kind: "table", object: name, expected: "\(table.rows) rows", found: "missing")
            }
            if other.rows != table.rows {
                return RestoreDifference(
                    kind: "table", object: name, expected: "\(table.rows) rows", found: "\(other.rows) rows")
            }
            guard other.digest != table.digest else { return nil }
            return RestoreDifference(
                kind: "table", object: name, expected: "content \(table.digest)", found: "content \(other.digest)")
        }
    }

    private func others(on connection: isolated Connection) throws -> [RestoreDifference] {
        var result: [RestoreDifference] = []
        let relations = try DatabaseContent.relations(on: connection)
        let values = try DatabaseContent.sequenceValues(relations, on: connection)
        let spelled = { (value: Int64?) in value.map(String.init) ?? "not used" }
        for sequence in manifest.sequences {
            let path = ObjectIdentity(.sequence, schema: sequence.schema, sequence.name).description
            let object = "\(sequence.schema).\(sequence.name)"
            guard let value = values[path] else {
                result.append(
                    RestoreDifference(
                        kind: "sequence", object: object, expected: spelled(sequence.first), found: "missing"))
                continue
            }
            // It went on while it was dumped: in between is right.
            let ends = [sequence.first ?? .min, sequence.last ?? .min]
            if value ?? .min < ends.min() ?? .min || value ?? .min > ends.max() ?? .max {
                result.append(
                    RestoreDifference(
                        kind: "sequence", object: object, expected: spelled(sequence.last), found: spelled(value)))
            }
        }
        if let expected = manifest.largeObjects {
            let found = try connection.transaction { try DatabaseContent.largeObjects(on: connection) }
            if found != expected {
                result.append(
                    RestoreDifference(
                        kind: "large objects", object: "all", expected: "\(expected.count), content \(expected.digest)",
                        found: found.map { "\($0.count), content \($0.digest)" } ?? "unreadable"))
            }
        }
        let roles = Set(try DatabaseContent.roles(on: connection))
        for role in manifest.roles where !roles.contains(role) {
            let name = role.prefix { $0 != ":" }
            let other = roles.first { $0.hasPrefix("\(name): ") }
            result.append(
                RestoreDifference(kind: "role", object: String(name), expected: role, found: other ?? "missing"))
        }
        return result
    }

    private func schema() async throws -> [RestoreDifference] {
        let found = try await Connection.opened(target) { connection in
            try await connection.with { try DatabaseContent.schema(nil, on: $0) }
        }
        if Bytes(Digest.of(found.utf8)).hex == manifest.catalog { return [] }
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else {
            return [RestoreDifference(kind: "schema", object: "all", expected: manifest.catalog, found: "another")]
        }
        let expected = try await restorer.text(of: part)
        let differences = CatalogDiff().differences(
            expected: try SchemaSnapshot.parse(expected, file: part.object).catalog,
            found: try SchemaSnapshot.parse(found, file: "restored").catalog)
        return differences.map { difference in
            RestoreDifference(
                kind: difference.object.kind.name,
                object: "\(difference.object)" + (difference.property.map { ": \($0)" } ?? ""),
                expected: difference.expected ?? "default", found: difference.found ?? "missing")
        }
    }
}
