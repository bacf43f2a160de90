import Postgres
import Reporting
import SQL

/// The owner of a database, its connection limit, and the privileges on it. They are set by ALTER DATABASE and GRANT ON
/// DATABASE, and pg_dump writes them only together with CREATE DATABASE.
///
/// A manifest is untrusted input: only the privileges of `Privilege` are accepted, and every name is quoted.
public struct DatabaseAccess: Codable, Sendable, Equatable {
    enum Privilege: String, Codable, Sendable {
        case connect = "CONNECT"
        case create = "CREATE"
        case temporary = "TEMPORARY"
    }

    enum Grantee: Codable, Sendable, Hashable {
        /// The owner of the database, whatever role that is.
        case owner
        case everybody
        case role(String)
    }

    struct Grant: Codable, Sendable, Hashable {
        let grantee: Grantee
        let privilege: Privilege
        let isGrantable: Bool
    }

    /// The maximum number of sessions; -1: unlimited.
    let limit: Int
    let grants: Set<Grant>
    /// The owner; nil in older manifests, which do not record the owner.
    var owner: String?

    /// Reads the owner, the connection limit and the privileges of the current database.
    static func read(on connection: isolated Connection) throws -> DatabaseAccess {
        let own = try connection.query(
            """
            SELECT datconnlimit, pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()
            """
        ).first
        let limit: Int = try own?.get(0) ?? -1
        // The same privilege from several grantors counts once.
        let rows = try connection.query(
            """
            SELECT a.grantee = 0, a.grantee = d.datdba, r.rolname::text, a.privilege_type, bool_or(a.is_grantable)
            FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE d.datname = current_database() GROUP BY 1, 2, 3, 4
            """)
        var grants: Set<Grant> = []
        for row in rows {
            guard let privilege = Privilege(rawValue: try row.get(3)) else { continue }
            let grantee: Grantee
            if try row.get(0) {
                grantee = .everybody
            } else if try row.get(1) {
                grantee = .owner
            } else if let role = try row.get(2, as: String?.self) {
                grantee = .role(role)
            } else {
                continue
            }
            grants.insert(Grant(grantee: grantee, privilege: privilege, isGrantable: try row.get(4)))
        }
        return DatabaseAccess(limit: limit, grants: grants, owner: try own?.get(1))
    }

    /// The roles that the grants and the owner refer to. The target must have them.
    var roles: [String] {
        Set(
            grants.compactMap { if case .role(let name) = $0.grantee { name } else { nil } } + [owner].compactMap { $0 }
        )
        .sorted()
    }

    /// Whether a database has this owner, connection limit and privileges. An owner that is not recorded is not
    /// compared.
    func isMet(by found: DatabaseAccess) -> Bool {
        found.limit == limit && found.grants == grants && (owner == nil || found.owner == owner)
    }

    /// Grants these privileges and revokes all others, in the open transaction. `RestoreGuard` sets the connection
    /// limit later, when it opens the database.
    func grant(on connection: isolated Connection) throws {
        let now = try Self.read(on: connection)
        if now.grants == grants { return }
        let row = try connection.query(
            """
            SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()
            """
        ).first
        guard let row else { return }
        let (database, owner) = (quoteIdentifier(try row.get(0)), quoteIdentifier(try row.get(1)))
        func spelled(_ grantee: Grantee) -> String {
            switch grantee {
            case .owner: owner
            case .everybody: "PUBLIC"
            case .role(let name): quoteIdentifier(name)
            }
        }
        for grantee in Set(now.grants.map(\.grantee)) {
            try connection.execute("REVOKE ALL ON DATABASE \(database) FROM \(spelled(grantee)) CASCADE")
        }
        for one in grants {
            try connection.execute(
                "GRANT \(one.privilege.rawValue) ON DATABASE \(database) TO \(spelled(one.grantee))"
                    + (one.isGrantable && one.grantee != .everybody ? " WITH GRANT OPTION" : ""))
        }
    }

    /// A description for people.
    public var description: String {
        let words = grants.map { grant in
            let who =
                switch grant.grantee {
                case .owner: "the owner"
                case .everybody: "PUBLIC"
                case .role(let name): visible(name)
                }
            return "\(grant.privilege.rawValue) to \(who)\(grant.isGrantable ? " with grant option" : "")"
        }
        return (owner.map { "owner \(visible($0)); " } ?? "")
            + "connection limit \(limit); \(words.sorted().joined(separator: ", "))"
    }
}
