import Kernel
import Postgres
import Reporting

extension CustomTask {
    /// The check of `reeve doctor` for tasks that the configuration defines.
    static let check = Check(
        "own-tasks", "the roles of your own tasks exist and can be used, and no other user can write their commands"
    ) { call in
        let configuration = call.estate.configuration
        let subject = "own-tasks of \(call.database.name)"
        var findings = untrusted(configuration).map { Finding(subject, .error, $0.description, mend: $0.hint) }
        guard let open = call.open else { return findings }
        var tasks: [String: String] = [:]
        for name in configuration.store.names(below: section) {
            let chosen = configuration[databases, name]
            guard chosen.isEmpty || chosen.contains(call.database.name) else { continue }
            if let role = configuration[role, name] { tasks[name] = role }
        }
        guard !tasks.isEmpty else { return findings }
        let roles = Array(Set(tasks.values))
        let usable = try await open.database.pool.with { connection in
            try connection.query(
                """
                SELECT r.rolname::pg_catalog.text AS name, pg_catalog.pg_has_role(r.oid, 'MEMBER') AS usable
                FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::pg_catalog.text[])
                """, [roles]
            ).reduce(into: [String: Bool]()) { $0[try $1.get("name")] = try $1.get("usable") }
        }
        for (task, role) in tasks.sorted(by: { $0.key < $1.key }) where usable[role] != true {
            let problem = usable[role] == nil ? "does not exist" : "cannot be used by the role that connects"
            findings.append(
                Finding(
                    subject, .error, "the task '\(task)' cannot run: the role '\(visible(role))' \(problem)",
                    mend: "create the role or grant it, or change tasks.custom.\(task).role"))
        }
        return findings
    }
}
