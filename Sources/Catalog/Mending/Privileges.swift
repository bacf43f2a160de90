import Postgres
import SQL

/// Writes the GRANT and REVOKE statements that turn one list of privileges into another.
struct PrivilegeChange {
    static let prefix = "privileges of "

    let object: CatalogObject
    /// The role that runs migrations.
    let owner: String
    /// The role that owns the object or, if it is a column, its table; nil: the role that runs migrations.
    let objectOwner: String?

    init(object: CatalogObject, owner: String, objectOwner: String? = nil) {
        self.object = object
        self.owner = owner
        self.objectOwner = objectOwner ?? object["owner"]
    }

    /// Returns the statements that change the privileges of a grantee from the found list to the expected list. nil
    /// means the default privileges on the object.
    func statements(_ property: String, found: String?, expected: String?) -> [String] {
        let grantee = Self.grantee(property) ?? property
        if object.identity.kind == .extensionMember { return memberStatements(grantee, found, expected) }
        var old = MaintainPrivilege.expanded(list(found ?? standard(grantee)))
        let new = MaintainPrivilege.expanded(list(expected ?? standard(grantee)))
        let role = role(grantee)
        let withoutOption = { (privilege: String) in privilege.hasSuffix("*") ? String(privilege.dropLast()) : privilege
        }
        let newNames = Set(new.map(withoutOption))
        var result: [String] = []
        if MaintainPrivilege.isAll(old.map(withoutOption)), !newNames.contains(MaintainPrivilege.name) {
            result.append(sentence("REVOKE ALL", "FROM \(role)"))
            old = []
        }
        let oldNames = Set(old.map(withoutOption))
        let revoked = old.map(withoutOption).filter { !newNames.contains($0) }
        if !revoked.isEmpty { result.append(sentence("REVOKE \(names(revoked))", "FROM \(role)")) }
        let lessened = old.filter { $0.hasSuffix("*") }.map(withoutOption).filter {
            newNames.contains($0) && !new.contains("\($0)*")
        }
        if !lessened.isEmpty {
            result.append(sentence("REVOKE GRANT OPTION FOR \(names(lessened))", "FROM \(role)"))
        }
        var granted = new.filter { !$0.hasSuffix("*") && !oldNames.contains($0) }
        if !granted.isEmpty, MaintainPrivilege.isAll(new) { granted = new }
        if !granted.isEmpty { result.append(sentence("GRANT \(names(granted))", "TO \(role)")) }
        var optional = new.filter { $0.hasSuffix("*") && !old.contains($0) }.map(withoutOption)
        if !optional.isEmpty, new.allSatisfy({ $0.hasSuffix("*") }), MaintainPrivilege.isAll(new.map(withoutOption)) {
            optional = new.map(withoutOption)
        }
        if !optional.isEmpty { result.append(sentence("GRANT \(names(optional))", "TO \(role) WITH GRANT OPTION")) }
        return result
    }

    /// The same for a member of an extension, whose privileges are listed as changes of those that the extension gave.
    private func memberStatements(_ grantee: String, _ found: String?, _ expected: String?) -> [String] {
        let (old, new) = (list(found ?? "none"), list(expected ?? "none"))
        let role = role(grantee)
        let undone = old.filter { !new.contains($0) }.map { ($0.hasPrefix("+") ? "-" : "+") + $0.dropFirst() }
        return (undone + new.filter { !old.contains($0) }).map { change in
            let isGrant = change.hasPrefix("+")
            let privilege = change.dropFirst().prefix { $0 != "*" }
            let option = change.hasSuffix("*") && isGrant ? " WITH GRANT OPTION" : ""
            return sentence(
                "\(isGrant ? "GRANT" : "REVOKE") \(privilege)", isGrant ? "TO \(role)\(option)" : "FROM \(role)")
        }
    }

    /// Returns the grantee in the property name `privileges of GRANTEE`; nil for the names of other properties.
    static func grantee(_ property: String) -> String? {
        guard property.utf8.starts(with: prefix.utf8) else { return nil }
        return String(Substring(property.utf8.dropFirst(prefix.utf8.count)))
    }

    private func list(_ text: String) -> [String] { Self.list(text) }

    static func list(_ text: String) -> [String] {
        text == "none" || text.isEmpty ? [] : text.split(separator: ", ").map(String.init)
    }

    /// Returns privileges as a list in SQL. If the object is a column, its name follows each privilege.
    private func names(_ privileges: [String]) -> String {
        if MaintainPrivilege.isAll(privileges) { return "ALL" }
        let column = object.identity.kind == .column ? " (\(object.identity.quotedName))" : ""
        return privileges.map { $0 + column }.joined(separator: ", ")
    }

    private func sentence(_ verb: String, _ whom: String) -> String {
        let identity = object.identity
        switch identity.kind {
        case .defaultPrivileges:
            let scope = identity.schema.map { " IN SCHEMA \(PlainName.quoted($0))" } ?? ""
            return "ALTER DEFAULT PRIVILEGES FOR ROLE \(PlainName.quoted(ownerName))\(scope) \(verb) "
                + "ON \(identity.name.uppercased()) \(whom)"
        case .column: return "\(verb) ON \(identity.quotedParent) \(whom)"
        case .table, .foreignTable, .view, .materializedView: return "\(verb) ON \(identity.sqlName) \(whom)"
        case .aggregate: return "\(verb) ON FUNCTION \(identity.path)(\(identity.signature ?? "")) \(whom)"
        case .extensionMember: return "\(verb) ON \(identity.signature ?? "") \(whom)"
        case .foreignServer: return "\(verb) ON FOREIGN SERVER \(identity.sqlName) \(whom)"
        case .domain: return "\(verb) ON DOMAIN \(identity.sqlName) \(whom)"
        case .schema, .enumType, .compositeType, .rangeType, .sequence, .function, .procedure, .foreignDataWrapper:
            return "\(verb) ON \(identity.reference) \(whom)"
        // These kinds have no privileges.
        case .extension, .collation, .domainConstraint, .textSearchDictionary, .textSearchConfiguration, .operation,
            .cast,
            .constraint, .index, .rule, .trigger, .policy, .statistics, .eventTrigger, .publication, .userMapping,
            .subscription:
            return "\(verb) ON \(identity.reference) \(whom)"
        }
    }

    private var ownerName: String {
        if object.identity.kind == .defaultPrivileges {
            let role = object.identity.signature ?? ""
            return role.isEmpty ? owner : QualifiedName.unquoted(role)
        }
        return objectOwner ?? owner
    }

    private func role(_ grantee: String) -> String {
        switch grantee {
        case "(owner)": PlainName.quoted(ownerName)
        case "(migrator)": PlainName.quoted(owner)
        case "public": "PUBLIC"
        default: grantee
        }
    }

    /// Returns the default privileges of a grantee on a new object.
    func standard(_ grantee: String) -> String {
        let identity = object.identity
        let isDefault = identity.kind == .defaultPrivileges
        // The default privileges for a schema are granted in addition to the global default privileges, and are
        // initially empty.
        if isDefault, identity.schema != nil { return "none" }
        let kind = isDefault ? Self.kinds[identity.name] ?? .table : identity.kind
        switch grantee {
        case "(owner)": return Self.standard(of: kind).owner
        case "public": return Self.standard(of: kind).everybody
        default: return "none"
        }
    }

    /// The kinds of objects, by their names in ALTER DEFAULT PRIVILEGES.
    private static let kinds: [String: ObjectKind] = [
        "tables": .table, "sequences": .sequence, "functions": .function, "types": .domain, "schemas": .schema,
    ]

    /// Returns the default privileges of the owner and of PUBLIC on a new object (PostgreSQL manual, table 5.2).
    private static func standard(of kind: ObjectKind) -> (owner: String, everybody: String) {
        switch kind {
        case .table, .foreignTable, .view, .materializedView:
            ("DELETE, INSERT, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE", "none")
        case .sequence: ("SELECT, UPDATE, USAGE", "none")
        case .function, .procedure, .aggregate: ("EXECUTE", "EXECUTE")
        case .enumType, .domain, .compositeType, .rangeType: ("USAGE", "USAGE")
        case .schema: ("CREATE, USAGE", "none")
        case .foreignServer, .foreignDataWrapper: ("USAGE", "none")
        case .extension, .collation, .domainConstraint, .textSearchDictionary, .textSearchConfiguration, .operation,
            .cast, .column, .constraint, .index, .rule, .trigger, .policy, .statistics, .eventTrigger, .publication,
            .userMapping, .subscription, .defaultPrivileges, .extensionMember:
            ("none", "none")
        }
    }
}

/// The privileges that ALTER DEFAULT PRIVILEGES sets for new objects of the role that runs migrations.
struct DefaultPrivileges {
    private let objects: [ObjectIdentity: CatalogObject]

    init(_ catalog: SchemaCatalog) {
        objects = catalog.objects.filter { $0.key.kind == .defaultPrivileges && $0.key.signature == "" }
    }

    /// Returns the privileges of a new object that differ from PostgreSQL's own defaults, by property.
    func given(to identity: ObjectIdentity) -> [ExactText: String] {
        guard let name = Self.name(of: identity.kind) else { return [:] }
        let everywhere = objects[ObjectIdentity(.defaultPrivileges, name, signature: "")]
        let here = identity.schema.flatMap {
            objects[ObjectIdentity(.defaultPrivileges, schema: $0, name, signature: "")]
        }
        var result: [ExactText: String] = [:]
        for (property, value) in everywhere?.properties ?? [] { result[ExactText(property)] = value }
        let plain = PrivilegeChange(object: CatalogObject(identity), owner: "")
        for (property, value) in here?.properties ?? [] {
            guard let grantee = PrivilegeChange.grantee(property) else { continue }
            let before = PrivilegeChange.list(result[ExactText(property)] ?? plain.standard(grantee))
            result[ExactText(property)] = Set(before).union(PrivilegeChange.list(value)).sorted().joined(
                separator: ", ")
        }
        return result
    }

    private static func name(of kind: ObjectKind) -> String? {
        if kind.isRelation { return "tables" }
        if kind == .sequence { return "sequences" }
        if kind.isRoutine { return "functions" }
        if kind.isType { return "types" }
        return kind == .schema ? "schemas" : nil
    }
}
