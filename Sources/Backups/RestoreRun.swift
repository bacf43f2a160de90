import Postgres
import Processes
import SQL

/// Carries out the steps of a restore in one database.
struct RestoreRun: Sendable {
    let target: ConnectionSettings
    let tools: BackupTools
    let reader: PartReader
    let trust: CodeTrust
    /// The encoding of the backup's archives.
    let encoding: String
    /// The owners of the backup's objects.
    let owners: [String]
    /// The tablespaces of the target that take the place of the backup's, by name; nil: the default tablespace.
    var tablespaces: [ExactText: String?] = [:]
    /// Collects the entries after the rows that the server refuses; nil: such an entry ends the restore.
    let missing: Gathered<MissingEntry>?

    init(
        _ manifest: Manifest, target: ConnectionSettings, tools: BackupTools, reader: PartReader, trust: CodeTrust,
        missing: Gathered<MissingEntry>? = nil
    ) {
        self.target = target
        self.tools = tools
        self.reader = reader
        self.trust = trust
        self.missing = missing
        encoding = manifest.locale.encoding
        owners = manifest.neededRoles + manifest.roles.map { String($0.prefix { $0 != ":" }) }
    }

    /// - Throws: `BackupError`, `PipelineError`, `PostgresError`, `StorageError`.
    func perform(_ steps: [RestorePlan.Step], under confinement: Confinement = Confinement()) async throws {
        for step in steps {
            switch step {
            case .parts(let parts, let options, let jobs): try await restore(parts, options, jobs)
            case .refuseUntrusted(let tables): try await trust.check(in: target, tables: tables)
            case .suspendChecks: try await confinement.suspendChecks()
            case .mask(let rules):
                try await Connection.opened(target.restoring) { connection in
                    try await connection.with { try rules.apply(on: $0) }
                }
            case .entries(let entries, let part, let jobs): try await restore(entries, of: part, jobs: jobs)
            case .lateConstraints(let part, let jobs): try await makeConstraints(part, jobs: jobs)
            }
        }
    }

    /// Restores some entries of an archive that follow the rows.
    private func restore(_ entries: RestorePlan.Entries, of part: Manifest.Part, jobs: Int) async throws {
        let refused = try await reader.withFile(part) { path -> [MissingEntry] in
            let wanted = entries.of(try await reader.contents(of: path, tools))
            if wanted.entries.isEmpty { return [] }
            let script = try ArchiveScript(
                try await converted(try await reader.script(of: wanted, at: path, tools)), file: part.object
            ).placed(tablespaces)
            let run = EntryRun(wanted, script, owners: owners, into: target, object: part.object)
            return try await run.run(jobs: jobs)
        }
        for one in refused { try note(one, part) }
    }

    private func note(_ refused: MissingEntry, _ part: Manifest.Part) throws {
        guard let missing else { throw BackupError.part(object: part.object, reason: refused.description) }
        missing.add([refused])
    }

    /// Converts a script to UTF-8. The server converts it, because only the server knows all its encodings.
    private func converted(_ script: [UInt8]) async throws -> [UInt8] {
        if ["UTF8", "SQL_ASCII"].contains(encoding) || script.allSatisfy({ $0 < 0x80 }) { return script }
        let encoding = encoding
        return try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let text: String? = try connection.query(
                    "SELECT convert_from($1::bytea, $2::name)", [Bytes(script), encoding]
                ).first?.get(0)
                return Array((text ?? "").utf8)
            }
        }
    }

    /// Makes the constraints of an archive. Constraints that lock different tables are made concurrently.
    private func makeConstraints(_ part: Manifest.Part, jobs: Int) async throws {
        let script = try await reader.withFile(part) { path in
            let late = try await reader.contents(of: path, tools).entries(of: RestorePlan.lateConstraints)
            return late.entries.isEmpty
                ? [] : try await converted(try await reader.script(of: late, at: path, tools))
        }
        let statements = try LateConstraints.statements(of: script, file: part.object)
        for round in LateConstraints.rounds(of: statements.makes, width: jobs) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for one in round { group.addTask { try await make(one.statement, "constraint", part) } }
                for try await _ in group {}
            }
        }
        for statement in statements.notes { try await make(statement, "comment or security label", part) }
    }

    /// Runs a statement in a session of its own.
    private func make(_ statement: String, _ kind: String, _ part: Manifest.Part) async throws {
        do {
            try await LateConstraints.make([statement], in: target.restoring, isConfined: true)
        } catch let error as PostgresError where error.kind == .server && !error.isOutage && !error.isTransient {
            let words = statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
            try note(MissingEntry(kind: kind, object: words, reason: error.description), part)
        } catch let error as PostgresError {
            throw BackupError.notRestored(object: part.object, reason: error.description)
        }
    }

    private func restore(_ parts: [Manifest.Part], _ options: [String], _ jobs: Int) async throws {
        let queue = SharedQueue(parts)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<jobs {
                group.addTask {
                    while let part = queue.next() {
                        try Task.checkCancellation()
                        try await reader.restore(part, into: target, tools, options)
                    }
                }
            }
            for try await _ in group {}
        }
    }
}
