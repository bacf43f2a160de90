import Postgres
import Reporting
import SQL

/// Why a function of a system is not called.
struct UpkeepProblem: Error, Sendable, Equatable {
    let message: String
    let hint: String
}

/// A function of a system in the database, and the rights with which it is called.
struct UpkeepTarget: Sendable, Equatable {
    /// The owner, if the function is called with the owner's rights. nil: with the rights of the role that connects,
    /// which owns the function or has no more rights than its owner.
    let owner: String?
    /// Whether the role that connects is a superuser.
    let isSuperuser: Bool
    /// Whether the function returns an integer.
    let isCounting: Bool

    /// A row of pg_proc with the function's name.
    private struct Candidate {
        let kind: String
        let isSet: Bool
        /// The number of parameters without a default.
        let required: Int
        let type: String
        let owner: String
        let isOwn, isOfSuperuser, mayBecomeOwner, mayCall: Bool
    }

    /// Finds the function that a call without arguments resolves to.
    ///
    /// - Returns: nil if the schema does not exist.
    /// - Throws: `UpkeepProblem`.
    static func find(
        _ function: UpkeepFunction, in schema: String, on connection: isolated Connection
    ) throws -> UpkeepTarget? {
        let right = connection.serverVersion >= 160_000 ? "SET" : "MEMBER"
        let rows = try connection.query(
            """
            SELECT p.oid IS NOT NULL AS found, p.prokind::pg_catalog.text AS kind, p.proretset AS is_set,
                   (p.pronargs - p.pronargdefaults)::pg_catalog.int4 AS required,
                   pg_catalog.format_type(p.prorettype, NULL) AS type, o.rolname::pg_catalog.text AS owner,
                   o.rolname = current_user AS is_own, o.rolsuper AS is_of_superuser,
                   pg_catalog.pg_has_role(o.oid, '\(right)') AS may_become,
                   pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                       AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS may_call,
                   (SELECT s.rolsuper FROM pg_catalog.pg_roles s WHERE s.rolname = current_user) AS is_superuser
            FROM pg_catalog.pg_namespace n
            LEFT JOIN (pg_catalog.pg_proc p JOIN pg_catalog.pg_roles o ON o.oid = p.proowner)
                ON p.pronamespace = n.oid AND p.proname = $2
            WHERE n.nspname = $1
            """, [schema, function.name])
        guard let first = rows.first else { return nil }
        let candidates = try rows.filter { try $0.get("found") }.map { row in
            Candidate(
                kind: try row.get("kind"), isSet: try row.get("is_set"), required: try row.get("required"),
                type: try row.get("type"), owner: try row.get("owner"),
                isOwn: try row.get("is_own"), isOfSuperuser: try row.get("is_of_superuser"),
                mayBecomeOwner: try row.get("may_become"), mayCall: try row.get("may_call"))
        }
        return try choose(candidates, function, isSuperuser: try first.get("is_superuser"))
    }

    private static func choose(
        _ candidates: [Candidate], _ function: UpkeepFunction, isSuperuser: Bool
    ) throws -> UpkeepTarget {
        let callable = candidates.filter { $0.kind == "f" && !$0.isSet && $0.required == 0 }
        guard let chosen = callable.first else {
            guard !candidates.isEmpty else {
                throw UpkeepProblem(
                    message: "the function does not exist",
                    hint:
                        "apply the migrations that create it with 'reeve migrate up', or correct 'upkeep' in system.yaml"
                )
            }
            throw UpkeepProblem(
                message: "it cannot be called without arguments, or is no plain function",
                hint: "write a function with defaults for all parameters that returns one value")
        }
        if callable.count > 1 {
            throw UpkeepProblem(
                message: "\(callable.count) functions of this name can be called without arguments",
                hint: "drop the others, or give one of them another name")
        }
        let isCounting = ["smallint", "integer", "bigint"].contains(chosen.type)
        if function.repeats, !isCounting {
            throw UpkeepProblem(
                message: "it returns \(visible(chosen.type)), not the number of rows of its batch",
                hint: "return an integer that is 0 when nothing is left, or remove 'repeat' in system.yaml")
        }
        if chosen.isOwn || chosen.isOfSuperuser {
            if !chosen.mayCall {
                throw UpkeepProblem(
                    message: "the role that connects may not call it",
                    hint: "GRANT EXECUTE ON the function, and USAGE ON its schema, to the role that connects")
            }
            return UpkeepTarget(owner: nil, isSuperuser: isSuperuser, isCounting: isCounting)
        }
        if !chosen.mayBecomeOwner {
            throw UpkeepProblem(
                message: "it belongs to \(visible(chosen.owner)), and the role that connects cannot take that role",
                hint: "GRANT \(quoteIdentifier(chosen.owner)) to the role that connects, or connect as "
                    + visible(chosen.owner))
        }
        return UpkeepTarget(owner: chosen.owner, isSuperuser: isSuperuser, isCounting: isCounting)
    }
}
