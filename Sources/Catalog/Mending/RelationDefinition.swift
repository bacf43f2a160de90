import Postgres
import SQL

/// The statements that create tables, columns, sequences and views of a catalog.
struct RelationDefinition {
    let catalog: SchemaCatalog
    let parts: [ObjectIdentity: [ObjectIdentity]]

    // MARK: Tables

    /// Returns the statements that create a table and its columns.
    ///
    /// - Parameter attaches: whether a partition is created as a separate table and then attached, so that it can have
    ///   its own order of columns.
    func table(_ object: CatalogObject, attaches: Bool = false) -> [String] {
        let name = object.identity.path
        let unlogged = object["persistence"] == nil ? "" : "UNLOGGED "
        let columns = columns(of: object)
        var sql: String
        if let parent = object["partition of"], let bound = object["partition bound"], !attaches {
            sql = "CREATE \(unlogged)\(object.identity.word) \(name) PARTITION OF \(parent) \(bound)"
        } else {
            let list = columns.map { "    " + column($0) }.joined(separator: ",\n")
            sql = "CREATE \(unlogged)\(object.identity.word) \(name) (\(list.isEmpty ? "" : "\n\(list)\n"))"
            if let parents = object["inherits"] { sql += " INHERITS (\(parents))" }
        }
        if let key = object["partition key"] { sql += " PARTITION BY \(key)" }
        if let method = object["access method"] { sql += " USING \(PlainName.quoted(method))" }
        if let server = object["server"] { sql += " SERVER \(server)" }
        if let options = object["foreign options"] { sql += " OPTIONS \(OptionList(options).foreignList)" }
        if object["options"] != nil || object["toast options"] != nil {
            let own = OptionList(object["options"]).pairs.map { $0.storage() }
            let toast = OptionList(object["toast options"]).pairs.map { $0.storage("toast.") }
            sql += " WITH (\((own + toast).joined(separator: ", ")))"
        }
        if let space = object["tablespace"] { sql += " TABLESPACE \(PlainName.quoted(space))" }
        var statements = [sql]
        if let type = object["of type"] { statements.append("ALTER TABLE \(name) OF \(type)") }
        statements += columns.flatMap { (attaches ? [] : partitionColumn($0, of: object)) + settings(of: $0) }
        if attaches, let parent = object["partition of"], let bound = object["partition bound"] {
            statements.append("ALTER TABLE \(parent) ATTACH PARTITION \(name) \(bound)")
        }
        return statements
    }

    /// Returns the columns of a table in their order.
    func columns(of table: CatalogObject) -> [CatalogObject] {
        let names = QualifiedName.list(table["column order"] ?? "").map(QualifiedName.unquoted)
        return names.compactMap { catalog[column($0, of: table.identity)] }
    }

    func column(_ name: String, of table: ObjectIdentity) -> ObjectIdentity {
        ObjectIdentity(.column, schema: table.schema, parent: table.name, name)
    }

    /// Returns the statements for the properties of a partition's column that differ from the parent's column. The
    /// partition inherits all other properties.
    private func partitionColumn(_ column: CatalogObject, of table: CatalogObject) -> [String] {
        guard let parent = table["partition of"],
            let other = catalog.object(at: "\(parent).\(column.identity.quotedName)").flatMap({ catalog[$0] })
        else { return [] }
        var actions: [String] = []
        if !ExactText.same(column["default"], other["default"]) {
            actions.append(column["default"].map { "SET DEFAULT \($0)" } ?? "DROP DEFAULT")
        }
        if column["not null"] != nil, other["not null"] == nil { actions.append("SET NOT NULL") }
        return actions.map { "ALTER TABLE \(table.identity.path) ALTER COLUMN \(column.identity.quotedName) \($0)" }
    }

    /// Returns a column as `name type …`, in the syntax of CREATE TABLE and ADD COLUMN.
    func column(_ object: CatalogObject) -> String {
        var sql = "\(object.identity.quotedName) \(object["type"] ?? "")"
        if let options = object["foreign options"] { sql += " OPTIONS \(OptionList(options).foreignList)" }
        if let collation = object["collation"] { sql += " COLLATE \(collation)" }
        if let expression = object["generated"] {
            sql += " GENERATED ALWAYS AS (\(expression)) \(object["generated kind"] == nil ? "STORED" : "VIRTUAL")"
        } else if let expression = object["default"] {
            sql += " DEFAULT \(expression)"
        } else if let identity = object["identity"] {
            sql += " GENERATED \(identity.uppercased()) AS IDENTITY\(identityOptions(of: object.identity))"
        }
        if object["not null"] == "yes" { sql += " NOT NULL" }
        return sql
    }

    func identitySequence(of column: ObjectIdentity) -> CatalogObject? {
        (parts[column] ?? []).lazy.compactMap { catalog[$0] }.first { $0["identity of"] != nil }
    }

    func identityOptions(of column: ObjectIdentity) -> String {
        guard let sequence = identitySequence(of: column) else { return "" }
        return " (SEQUENCE NAME \(sequence.identity.path) \(Self.sequenceOptions(sequence)))"
    }

    /// Returns the statements for properties that can be set only on an existing column.
    func settings(of object: CatalogObject) -> [String] {
        let alter = "ALTER TABLE \(object.identity.quotedParent) ALTER COLUMN \(object.identity.quotedName)"
        var statements: [String] = []
        if let kind = object["not null"], kind != "yes" { statements.append(addNotNull(of: object, kind)) }
        if let storage = object["storage"] { statements.append("\(alter) SET STORAGE \(storage.uppercased())") }
        if let compression = object["compression"] { statements.append("\(alter) SET COMPRESSION \(compression)") }
        if let target = object["statistics target"] { statements.append("\(alter) SET STATISTICS \(target)") }
        if let options = object["options"] { statements.append("\(alter) SET \(OptionList(options).list)") }
        return statements
    }

    /// Returns the statement for a NOT NULL constraint that is not inherited or not valid.
    func addNotNull(of column: CatalogObject, _ kind: String) -> String {
        let options = QualifiedName.list(kind).map { " \($0.uppercased())" }.joined()
        return "ALTER TABLE \(column.identity.quotedParent) ADD NOT NULL \(column.identity.quotedName)\(options)"
    }

    // MARK: Sequences and views

    static func sequenceOptions(_ object: CatalogObject) -> String {
        let increment = object["increment"] ?? "1"
        return "INCREMENT BY \(increment) MINVALUE \(object["minimum"] ?? "1") "
            + (object["maximum"].map { "MAXVALUE \($0)" } ?? Self.highest(object["type"])) + " "
            + "START WITH \(object["start"] ?? "1") CACHE \(object["cache"] ?? "1") "
            + (object["cycle"] == nil ? "NO CYCLE" : "CYCLE")
    }

    /// Returns a MAXVALUE clause with the largest value of a type, which is the default of an ascending sequence. The
    /// clause is always written, because a descending sequence has another default.
    private static func highest(_ type: String?) -> String {
        switch type {
        case "smallint": "MAXVALUE 32767"
        case "integer": "MAXVALUE 2147483647"
        default: "MAXVALUE 9223372036854775807"
        }
    }

    func sequence(_ object: CatalogObject) -> [String] {
        let unlogged = object["persistence"] == nil ? "" : "UNLOGGED "
        return [
            "CREATE \(unlogged)SEQUENCE \(object.identity.path) AS \(object["type"] ?? "bigint") \(Self.sequenceOptions(object))"
        ]
    }

    func view(_ object: CatalogObject) -> [String] {
        var sql = "CREATE \(object.identity.word) \(object.identity.path)"
        if let method = object["access method"] { sql += " USING \(PlainName.quoted(method))" }
        if let options = object["options"] { sql += " WITH \(OptionList(options).list)" }
        if let space = object["tablespace"] { sql += " TABLESPACE \(PlainName.quoted(space))" }
        let defaults = (parts[object.identity] ?? []).compactMap { catalog[$0] }.compactMap { column in
            column["default"].map {
                "ALTER VIEW \(object.identity.path) ALTER COLUMN \(column.identity.quotedName) SET DEFAULT \($0)"
            }
        }
        return [sql + " AS\n" + (object["definition"] ?? "")] + defaults
    }
}
