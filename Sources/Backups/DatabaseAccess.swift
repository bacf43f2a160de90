import Postgres
import Reporting
import SQL

/// The owner of a database, its connection limit, the privileges on it, its comment, its tablespace, and whether it is
/// a template. They are set by ALTER DATABASE, COMMENT and GRANT ON DATABASE, and pg_dump writes them only together
/// with CREATE DATABASE.
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
    /// Whether the database is a template; nil in older manifests, which do not record this, the comment and the
    /// tablespace.
    var isTemplate: Bool?
    var comment: String?
    /// The default tablespace of the database.
    var tablespace: String?

    /// Reads the properties of a database.
    ///
    /// - Parameter name: the database; nil: the current one.
    static func read(of name: String? = nil, on connection: isolated Connection) throws -> DatabaseAccess {
        let own = try connection.query(
            """
            SELECT d.datconnlimit, pg_get_userbyid(d.datdba)::text, d.datistemplate,
                shobj_description(d.oid, 'pg_database'), t.spcname::text
            FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
            WHERE d.datname = coalesce($1, current_database())
            """, [name]
        ).first
        let limit: Int = try own?.get(0) ?? -1
        // The same privilege from several grantors counts once.
        let rows = try connection.query(
            """
            SELECT a.grantee = 0, a.grantee = d.datdba, r.rolname::text, a.privilege_type, bool_or(a.is_grantable)
            FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE d.datname = coalesce($1, current_database()) GROUP BY 1, 2, 3, 4
            """, [name])
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
        return DatabaseAccess(
            limit: limit, grants: grants, owner: try own?.get(1), isTemplate: try own?.get(2), comment: try own?.get(3),
            tablespace: try own?.get(4))
    }

    /// The roles that the grants and the owner refer to. The target must have them.
    var roles: [String] {
        Set(
            grants.compactMap { if case .role(let name) = $0.grantee { name } else { nil } } + [owner].compactMap { $0 }
        )
        .sorted()
    }

    /// Whether a database has this owner, connection limit, privileges, comment and template flag. What is not recorded
    /// is not compared. The tablespace is not compared, because the target may have other tablespaces.
    func isMet(by found: DatabaseAccess) -> Bool {
        found.limit == limit && found.grants == grants && (owner == nil || found.owner == owner)
            && (isTemplate == nil || found.isTemplate == isTemplate && found.comment == comment)
    }

    /// Sets the comment, in the open transaction. A comment that is not recorded is not changed.
    func describe(on connection: isolated Connection) throws {
        guard isTemplate != nil else { return }
        let row = try connection.query("SELECT current_database()::text").first
        guard let name: String = try row?.get(0) else { return }
        try connection.execute(
            "COMMENT ON DATABASE \(quoteIdentifier(name)) IS \(comment.map(quoteLiteral) ?? "NULL")")
    }

    /// Grants these privileges and revokes all others, in the open transaction. `RestoreGuard` sets the connection
    /// limit and the template flag later, when it opens the database.
    ///
    /// - Parameter name: the database; nil: the current one.
    func grant(on name: String? = nil, over connection: isolated Connection) throws {
        let now = try Self.read(of: name, on: connection)
        if now.grants == grants { return }
        let row = try connection.query(
            """
            SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database
            WHERE datname = coalesce($1, current_database())
            """, [name]
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

    /// Returns this access without what another database does not grant: a privilege is kept if the other database
    /// grants it to the same role or to PUBLIC, and the connection limit is the lower one. The owner is kept. Pure: no
    /// I/O.
    func narrowed(to other: DatabaseAccess) -> DatabaseAccess {
        let kept = grants.filter { grant in
            other.grants.contains { there in
                there.privilege == grant.privilege && (there.isGrantable || !grant.isGrantable)
                    && (there.grantee == grant.grantee || there.grantee == .everybody)
            }
        }
        let limits = [limit, other.limit].filter { $0 >= 0 }
        var result = DatabaseAccess(limit: limits.min() ?? -1, grants: kept, owner: owner)
        (result.comment, result.tablespace) = (comment, tablespace)
        result.isTemplate = isTemplate.map { $0 && other.isTemplate == true }
        return result
    }

    /// Returns this access without the privileges of PUBLIC that another database does not grant to PUBLIC. Pure: no
    /// I/O.
    func withoutPublic(beyond other: DatabaseAccess) -> DatabaseAccess {
        var result = DatabaseAccess(
            limit: limit, grants: grants.filter { $0.grantee != .everybody || other.grants.contains($0) }, owner: owner)
        (result.comment, result.tablespace, result.isTemplate) = (comment, tablespace, isTemplate)
        return result
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
            + (isTemplate == true ? "; template" : "") + (comment.map { "; comment \(visible($0))" } ?? "")
    }
}
