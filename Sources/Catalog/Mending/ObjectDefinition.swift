import Postgres
import SQL

/// The statements that create and drop an object of a catalog.
struct ObjectDefinition {
    let catalog: SchemaCatalog
    /// The parts of each object.
    let parts: [ObjectIdentity: [ObjectIdentity]]
    /// The role that runs migrations. It owns the objects without an "owner" property.
    let owner: String
    /// The privileges of new objects, if ALTER DEFAULT PRIVILEGES has changed them.
    var defaults: DefaultPrivileges?
    /// Whether CREATE EXTENSION names the version that the catalog contains. Set only if the catalog is from a server
    /// of the same major version: other servers may not have that version of the extension.
    var namesVersions = true

    var relations: RelationDefinition { RelationDefinition(catalog: catalog, parts: parts) }

    /// Returns the statements that create an object, without its owner, comment and privileges.
    func create(_ object: CatalogObject) -> [String] {
        let name = object.identity.sqlName
        switch object.identity.kind {
        case .schema: return ["CREATE SCHEMA \(name)"]
        case .extension:
            let version = namesVersions ? object["version"].map { " VERSION \(quoteLiteral($0))" } ?? "" : ""
            return [
                "CREATE EXTENSION \(name) WITH SCHEMA \(PlainName.quoted(object["in schema"] ?? "public"))\(version)"
            ]
        case .table, .foreignTable: return relations.table(object)
        case .sequence: return relations.sequence(object)
        case .view, .materializedView: return relations.view(object)
        case .column:
            let add = "ALTER TABLE \(object.identity.quotedParent) ADD COLUMN \(relations.column(object))"
            return [add] + relations.settings(of: object)
        case .function, .procedure: return [RoutineDefinition(object: object).create(orReplace: false)]
        case .enumType: return [TypeDefinition(object: object).enumeration]
        case .domain: return [TypeDefinition(object: object).domain]
        case .compositeType: return [TypeDefinition(object: object).composite]
        case .rangeType: return [TypeDefinition(object: object).range]
        case .collation: return [TypeDefinition(object: object).collation]
        case .aggregate: return [TypeDefinition(object: object).aggregate]
        case .operation: return [TypeDefinition(object: object).operation]
        case .cast: return [TypeDefinition(object: object).cast]
        case .textSearchDictionary: return [TypeDefinition(object: object).dictionary]
        case .textSearchConfiguration: return TypeDefinition(object: object).configuration
        case .foreignDataWrapper: return [TypeDefinition(object: object).wrapper]
        case .foreignServer: return [TypeDefinition(object: object).server]
        case .userMapping: return [TypeDefinition(object: object).userMapping]
        case .subscription: return [TypeDefinition(object: object).subscription]
        case .constraint: return LeafDefinition(object: object).constraint
        case .domainConstraint: return [LeafDefinition(object: object).domainConstraint]
        case .index: return LeafDefinition(object: object).index
        case .statistics: return LeafDefinition(object: object).statistics
        case .trigger, .rule: return LeafDefinition(object: object).triggerOrRule
        case .policy: return [LeafDefinition(object: object).policy]
        case .eventTrigger: return LeafDefinition(object: object).eventTrigger
        case .publication: return [LeafDefinition(object: object).publication]
        // These consist only of privileges, which `attributes(of:)` sets.
        case .defaultPrivileges, .extensionMember: return []
        }
    }

    /// Returns the statements that set the owner, comment and privileges of an object that was just created.
    func attributes(of object: CatalogObject) -> [String] {
        var statements: [String] = []
        if let other = object["owner"] { statements.append(ownership(of: object.identity, role: other)) }
        if let comment = object["comment"] { statements.append(Self.comment(on: object.identity, comment)) }
        let privileges = privileges(of: object)
        let given = defaults?.given(to: object.identity) ?? [:]
        let wanted = object.properties.map { ExactText($0.name) }.filter { PrivilegeChange.grantee($0.text) != nil }
        for property in Set(wanted).union(given.keys).sorted() {
            statements += privileges.statements(
                property.text, found: given[property], expected: object[property.text])
        }
        return statements
    }

    func privileges(of object: CatalogObject) -> PrivilegeChange {
        let table = object.identity.kind == .column ? catalog.object(at: object.identity.quotedParent) : nil
        return PrivilegeChange(object: object, owner: owner, objectOwner: table.flatMap { catalog[$0]?["owner"] })
    }

    /// Returns the statements that set the owners, comments and privileges of an object and of the parts that are
    /// created with the object: columns, and the sequences of identity columns.
    func allAttributes(of object: CatalogObject) -> [String] {
        let along = Mender.whole(object.identity, parts).dropFirst().filter { part in
            part.kind == .column || part.kind == .sequence && catalog[part]?["identity of"] != nil
        }
        return attributes(of: object) + along.flatMap { catalog[$0].map(attributes) ?? [] }
    }

    func ownership(of identity: ObjectIdentity, role: String?) -> String {
        let role = PlainName.quoted(role ?? owner)
        return "ALTER \(identity.reference) OWNER TO \(role)"
    }

    static func comment(on identity: ObjectIdentity, _ text: String?) -> String {
        "COMMENT ON \(identity.reference) IS \(text.map(quoteLiteral) ?? "NULL")"
    }

    func drop(_ object: CatalogObject) -> [String] {
        let identity = object.identity
        switch identity.kind {
        case .column: return ["ALTER TABLE \(identity.quotedParent) DROP COLUMN \(identity.quotedName)"]
        case .constraint: return ["ALTER TABLE \(identity.quotedParent) DROP CONSTRAINT \(identity.quotedName)"]
        case .domainConstraint: return ["ALTER DOMAIN \(identity.quotedParent) DROP CONSTRAINT \(identity.quotedName)"]
        case .defaultPrivileges, .extensionMember:
            let privileges = privileges(of: object)
            return object.properties.filter { PrivilegeChange.grantee($0.name) != nil }.flatMap {
                privileges.statements($0.name, found: $0.value, expected: nil)
            }
        case .schema, .extension, .collation, .enumType, .domain, .compositeType, .rangeType, .textSearchDictionary,
            .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .userMapping, .sequence, .function,
            .procedure,
            .aggregate, .operation, .cast, .table, .foreignTable, .index, .view, .materializedView, .rule, .trigger,
            .policy, .statistics, .eventTrigger, .publication, .subscription:
            return ["DROP \(identity.reference)"]
        }
    }
}

/// The statement that creates a function or procedure.
struct RoutineDefinition {
    let object: CatalogObject

    func create(orReplace: Bool) -> String {
        let identity = object.identity
        var lines = [
            "CREATE \(orReplace ? "OR REPLACE " : "")\(identity.word) \(identity.path)(\(object["arguments"] ?? ""))"
        ]
        if let returns = object["returns"] { lines.append("    RETURNS \(returns)") }
        var words = ["LANGUAGE \(PlainName.quoted(object["language"] ?? "sql"))"]
        if let types = object["transforms"] {
            words.append("TRANSFORM " + QualifiedName.list(types).map { "FOR TYPE \($0)" }.joined(separator: ", "))
        }
        if object["window"] != nil { words.append("WINDOW") }
        if let volatility = object["volatility"] { words.append(volatility.uppercased()) }
        if object["strict"] != nil { words.append("STRICT") }
        if object["security"] != nil { words.append("SECURITY DEFINER") }
        if object["leakproof"] != nil { words.append("LEAKPROOF") }
        if let parallel = object["parallel"] { words.append("PARALLEL \(parallel.uppercased())") }
        if let cost = object["cost"] { words.append("COST \(cost)") }
        if let rows = object["rows"] { words.append("ROWS \(rows)") }
        if let support = object["support"] { words.append("SUPPORT \(support)") }
        lines.append("    " + words.joined(separator: " "))
        for setting in QualifiedName.lines(object["settings"] ?? "") {
            lines.append("    SET \(Self.setting(OptionList.Pair(setting)))")
        }
        let body = object["body"] ?? ""
        if object["body kind"] != nil {
            lines.append(body)
        } else if let library = object["library"] {
            lines.append("    AS \(quoteLiteral(library)), \(quoteLiteral(body))")
        } else {
            lines.append("    AS \(quoteDollar(body))")
        }
        return lines.joined(separator: "\n")
    }

    /// Returns a setting in the syntax of CREATE FUNCTION. A list of names must not be quoted as a whole, so each name
    /// is quoted separately.
    private static func setting(_ pair: OptionList.Pair) -> String {
        let name = PlainName.quoted(pair.name)
        guard ListSetting.names.contains(pair.name.lowercased()) else {
            return "\(name) TO \(quoteLiteral(pair.value))"
        }
        let parts = QualifiedName.list(pair.value).map { quoteLiteral(QualifiedName.unquoted($0)) }
        return "\(name) TO \(parts.isEmpty ? "''" : parts.joined(separator: ", "))"
    }
}

/// The settings whose values are lists of names. Names in such a list are quoted if necessary (`GUC_LIST_QUOTE` in
/// PostgreSQL's sources).
enum ListSetting {
    static let names = ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"]
}
