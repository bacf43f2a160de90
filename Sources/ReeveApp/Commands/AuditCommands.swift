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
        var results: [(name: String, chain: Audit.Verification)] = []
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            let chain = try await open.database.pool.with { connection in
                try LedgerSchema.isInstalled(on: connection)
                    ? try Audit.verify(on: connection) : Audit.Verification()
            }
            results.append((one.name, chain))
        }
        let broken = results.first { !$0.chain.isIntact }
        invocation.console.result(
            [
                "intact": .bool(broken == nil), "entries": .int(results.reduce(0) { $0 + Int($1.chain.entries) }),
                "broken_at": .int(broken?.chain.brokenAt.map { Int($0) }),
                "databases": .array(results.map { describe($0.name, $0.chain) }),
            ],
            text: results.map { name, chain in
                chain.brokenAt.map { "\(name): the audit chain is broken at entry \($0)" }
                    ?? "\(name): the audit chain is intact, \(chain.entries) entries"
            }.joined(separator: "\n"))
        return broken == nil ? .done : .finding
    }

    private static func describe(_ name: String, _ chain: Audit.Verification) -> JSONValue {
        [
            "database": .string(name), "intact": .bool(chain.isIntact), "entries": .int(Int(chain.entries)),
            "broken_at": .int(chain.brokenAt.map { Int($0) }),
        ]
    }
}
