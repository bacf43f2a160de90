import Postgres
import SQL

/// The statements that create objects that store no data of their own: constraints, indexes, triggers, rules, policies,
/// statistics objects, event triggers and publications.
struct LeafDefinition {
    let object: CatalogObject

    private var name: String { object.identity.quotedName }
    private var table: String { object.identity.quotedParent }

    private var cluster: [String] {
        object["clustered"] == nil ? [] : ["ALTER TABLE \(table) CLUSTER ON \(name)"]
    }

    var statistics: [String] {
        let target = object["target"].map { ["ALTER STATISTICS \(object.identity.path) SET STATISTICS \($0)"] }
        return [object["definition"] ?? ""] + (target ?? [])
    }

    // MARK: Constraints and indexes

    var constraint: [String] { [addConstraint] + cluster }

    var domainConstraint: String {
        "ALTER DOMAIN \(table) ADD CONSTRAINT \(name) CHECK (\(object["expression"] ?? ""))"
            + (object["not valid"] == nil ? "" : " NOT VALID")
    }

    private var addConstraint: String {
        var sql = "ALTER TABLE \(table) ADD CONSTRAINT \(name) "
        switch object["type"] {
        case "check":
            sql += "CHECK (\(object["expression"] ?? ""))"
            if object["no inherit"] != nil { sql += " NO INHERIT" }
        case "unique", "primary key":
            sql += (object["type"] ?? "").uppercased()
            if object["nulls not distinct"] != nil { sql += " NULLS NOT DISTINCT" }
            sql += " (\(object["columns"] ?? "")\(object["temporal"] == nil ? "" : " WITHOUT OVERLAPS"))"
            if let include = object["include"] { sql += " INCLUDE (\(include))" }
            if let options = object["options"] { sql += " WITH \(OptionList(options).list)" }
            if let space = object["tablespace"] { sql += " USING INDEX TABLESPACE \(PlainName.quoted(space))" }
        case "foreign key":
            sql += "FOREIGN KEY (\(keyColumns("columns"))) REFERENCES \(object["references"] ?? "")"
            sql += " (\(keyColumns("referenced columns")))"
            if let match = object["match"] { sql += " MATCH \(match.uppercased())" }
            // The actions are not converted to upper case, because column names may follow SET NULL.
            if let action = object["on update"] { sql += " ON UPDATE \(action)" }
            if let action = object["on delete"] { sql += " ON DELETE \(action)" }
        default: sql += object["definition"] ?? ""
        }
        if let deferrable = object["deferrable"] { sql += " DEFERRABLE \(deferrable.uppercased())" }
        if object["not enforced"] != nil {
            sql += " NOT ENFORCED"
        } else if object["not valid"] != nil {
            sql += " NOT VALID"
        }
        return sql
    }

    /// The columns of a foreign key in the property `property`. The last column of a temporal key is its period.
    private func keyColumns(_ property: String) -> String {
        var columns = QualifiedName.list(object[property] ?? "")
        if object["temporal"] != nil, let period = columns.popLast() { columns.append("PERIOD " + period) }
        return columns.joined(separator: ", ")
    }

    var index: [String] { [createIndex] + statisticsTargets + cluster }

    private var createIndex: String {
        let unique = object["unique"] == nil ? "" : "UNIQUE "
        var sql =
            "CREATE \(unique)INDEX \(name) ON \(table) USING \(PlainName.quoted(object["method"] ?? "btree")) (\(object["keys"] ?? ""))"
        if let include = object["include"] { sql += " INCLUDE (\(include))" }
        if object["nulls not distinct"] != nil { sql += " NULLS NOT DISTINCT" }
        if let options = object["options"] { sql += " WITH \(OptionList(options).list)" }
        if let space = object["tablespace"] { sql += " TABLESPACE \(PlainName.quoted(space))" }
        if let predicate = object["predicate"] { sql += " WHERE \(predicate)" }
        return sql
    }

    var statisticsTargets: [String] {
        Self.statisticsTargets(object["statistics targets"]).sorted { $0.key < $1.key }.map { number, target in
            "ALTER INDEX \(object.identity.sqlName) ALTER COLUMN \(number) SET STATISTICS \(target)"
        }
    }

    /// Returns the statistics targets by column number.
    static func statisticsTargets(_ text: String?) -> [Int: String] {
        var targets: [Int: String] = [:]
        for pair in QualifiedName.list(text ?? "") {
            let halves = pair.split(separator: ":")
            if halves.count == 2, let number = Int(halves[0]) { targets[number] = halves[1].trimmed }
        }
        return targets
    }

    // MARK: Triggers, rules, policies and publications

    /// The statement that enables or disables the object; empty if the object is to have the state of a new object.
    private var state: [String] { object["enabled"] == nil ? [] : [setState(object["enabled"])] }

    func setState(_ value: String?) -> String {
        let verb =
            switch value {
            case "disabled": "DISABLE"
            case "on replica": "ENABLE REPLICA"
            case "always": "ENABLE ALWAYS"
            default: "ENABLE"
            }
        return object.identity.kind == .eventTrigger
            ? "ALTER EVENT TRIGGER \(name) \(verb)" : "ALTER TABLE \(table) \(verb) \(object.identity.word) \(name)"
    }

    var triggerOrRule: [String] { [object["definition"] ?? ""] + state }

    var policy: String {
        var sql = "CREATE POLICY \(name) ON \(table)"
        if object["restrictive"] != nil { sql += " AS RESTRICTIVE" }
        if let command = object["command"] { sql += " FOR \(command.uppercased())" }
        sql += " TO \(object["roles"] ?? "PUBLIC")"
        if let using = object["using"] { sql += " USING (\(using))" }
        if let check = object["with check"] { sql += " WITH CHECK (\(check))" }
        return sql
    }

    var eventTrigger: [String] { [createEventTrigger] + state }

    private var createEventTrigger: String {
        var sql = "CREATE EVENT TRIGGER \(name) ON \(object["event"] ?? "")"
        if let tags = object["tags"] { sql += " WHEN TAG IN (\(tags))" }
        return sql + " EXECUTE FUNCTION \(object["function"] ?? "")()"
    }

    /// The targets of a publication, in the syntax of CREATE PUBLICATION and ALTER PUBLICATION … SET; nil if there are
    /// none.
    var publicationTargets: String? {
        if object["all tables"] != nil { return "ALL TABLES" }
        var targets: [String] = []
        if let tables = object["tables"] {
            targets += QualifiedName.lines(tables).map { "TABLE ONLY \($0)" }
        }
        if let schemas = object["schemas"] { targets.append("TABLES IN SCHEMA \(schemas)") }
        return targets.isEmpty ? nil : targets.joined(separator: ", ")
    }

    var publicationOptions: String {
        "(publish = \(quoteLiteral(object["publish"] ?? "insert, update, delete, truncate")), "
            + "publish_via_partition_root = \(object["publish via partition root"] == nil ? "false" : "true")"
            + (object["publish generated columns"].map { ", publish_generated_columns = \($0)" } ?? "") + ")"
    }

    var publication: String {
        "CREATE PUBLICATION \(name)" + (publicationTargets.map { " FOR \($0)" } ?? "") + " WITH \(publicationOptions)"
    }
}

extension StringProtocol {
    /// The text without leading and trailing spaces.
    var trimmed: String {
        var bytes = Array(utf8)[...]
        while bytes.first == UInt8(ascii: " ") { bytes.removeFirst() }
        while bytes.last == UInt8(ascii: " ") { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }
}
