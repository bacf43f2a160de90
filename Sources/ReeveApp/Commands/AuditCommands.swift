import Ledger
import Postgres

/// `reeve audit …`
enum AuditCommands {
    static let all = [verify]

    static let verify = CommandSpec(
        noun: "audit", verb: "verify", summary: "compute the audit chain anew and tell whether it is intact",
        discussion:
            "Each entry is hashed with the one before it, so that a change or a gap shows. Exit 3 when it is broken."
    ) { invocation in
        let estate = try invocation.estate()
        var worst = ExitCode.done
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            let result = try await open.database.pool.with { connection in
                try LedgerSchema.isInstalled(on: connection)
                    ? try Audit.verify(on: connection) : Audit.Verification()
            }
            invocation.console.result(
                [
                    "database": .string(one.name), "intact": .bool(result.isIntact),
                    "entries": .int(Int(result.entries)),
                    "broken_at": .int(result.brokenAt.map { Int($0) }),
                ],
                text: result.brokenAt.map { "\(one.name): the audit chain is broken at entry \($0)" }
                    ?? "\(one.name): the audit chain is intact, \(result.entries) entries")
            if !result.isIntact { worst = .finding }
        }
        return worst
    }
}
