import Postgres

/// Carries out the steps of a restore in one database.
struct RestoreRun: Sendable {
    let target: ConnectionSettings
    let tools: BackupTools
    let reader: PartReader
    let trust: CodeTrust

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
            case .entries(let entries, let part, let jobs):
                try await reader.withFile(part) { path in
                    let wanted = entries.of(try await reader.contents(of: path, tools))
                    try await reader.restore(wanted, of: part, at: path, into: target, tools, jobs: jobs)
                }
            case .lateConstraints(let part, let jobs): try await makeConstraints(part, jobs: jobs)
            }
        }
    }

    /// Makes the constraints of an archive. Constraints that lock different tables are made concurrently.
    private func makeConstraints(_ part: Manifest.Part, jobs: Int) async throws {
        let script = try await reader.withFile(part) { path in
            let late = try await reader.contents(of: path, tools).entries(of: RestorePlan.lateConstraints)
            return late.entries.isEmpty ? [] : try await reader.script(of: late, at: path, tools)
        }
        let statements = try LateConstraints.statements(of: script, file: part.object)
        for round in LateConstraints.rounds(of: statements.makes, width: jobs) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for one in round {
                    group.addTask {
                        do {
                            try await LateConstraints.make([one.statement], in: target.restoring, isConfined: true)
                        } catch let error as PostgresError where error.sqlState == "55P03" {
                            throw BackupError.notRestored(object: part.object, reason: error.description)
                        } catch let error as PostgresError where error.kind == .server && !error.isOutage {
                            throw BackupError.part(object: part.object, reason: error.description)
                        }
                    }
                }
                for try await _ in group {}
            }
        }
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { for statement in statements.notes { try $0.execute(statement) } }
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
