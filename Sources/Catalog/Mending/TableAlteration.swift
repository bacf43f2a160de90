import Postgres
import SQL

/// Decides how to change a property of a table.
struct TableAlteration {
    let old: CatalogObject
    let new: CatalogObject

    private var name: String { new.identity.path }

    func alteration(of property: String) -> Alteration {
        let alter = "ALTER TABLE \(name)"
        switch property {
        case "persistence": return .statements(["\(alter) SET \(new[property]?.uppercased() ?? "LOGGED")"])
        case "access method":
            return .statements(["\(alter) SET ACCESS METHOD \(PlainName.quoted(new[property] ?? "heap"))"])
        case "tablespace":
            return .statements(["\(alter) SET TABLESPACE \(PlainName.quoted(new[property] ?? "pg_default"))"])
        case "options": return .statements(OptionList.change(old[property], new[property]).map { "\(alter) \($0)" })
        case "toast options":
            return .statements(
                OptionList.change(old[property], new[property], prefix: "toast.").map { "\(alter) \($0)" })
        case "replica identity": return .afterwards(["\(alter) \(Self.replicaIdentity(new[property]))"])
        case "row level security":
            return .statements(["\(alter) \(new[property] == nil ? "DISABLE" : "ENABLE") ROW LEVEL SECURITY"])
        case "forced row level security":
            return .statements(["\(alter) \(new[property] == nil ? "NO FORCE" : "FORCE") ROW LEVEL SECURITY"])
        case "of type": return .statements(["\(alter) \(new[property].map { "OF \($0)" } ?? "NOT OF")"])
        // The columns of the table must first be changed so that they match the columns of the parent.
        case "inherits": return .afterwards(inheritance(alter))
        case "partition of", "partition bound": return .afterwards(attachment)
        case "disabled inherited triggers": return .afterwards(inheritedTriggers(alter))
        case "foreign options":
            return .statements([
                "ALTER FOREIGN TABLE \(name) \(OptionList.foreignChange(old[property], new[property]))"
            ])
        case "server": return .recreate
        default: return .rebuild
        }
    }

    static func replicaIdentity(_ value: String?) -> String {
        guard let value else { return "REPLICA IDENTITY DEFAULT" }
        let words = "using index "
        guard value.utf8.starts(with: words.utf8) else { return "REPLICA IDENTITY \(value.uppercased())" }
        return "REPLICA IDENTITY USING INDEX \(Substring(value.utf8.dropFirst(words.utf8.count)))"
    }

    /// Removes all parents and adds them again, because their order matters.
    private func inheritance(_ alter: String) -> [String] {
        QualifiedName.list(old["inherits"] ?? "").map { "\(alter) NO INHERIT \($0)" }
            + QualifiedName.list(new["inherits"] ?? "").map { "\(alter) INHERIT \($0)" }
    }

    private var attachment: [String] {
        var statements: [String] = []
        if let parent = old["partition of"] { statements.append("ALTER TABLE \(parent) DETACH PARTITION \(name)") }
        if let parent = new["partition of"], let bound = new["partition bound"] {
            statements.append("ALTER TABLE \(parent) ATTACH PARTITION \(name) \(bound)")
        }
        return statements
    }

    private func inheritedTriggers(_ alter: String) -> [String] {
        let (before, after) = (
            QualifiedName.exactList(old["disabled inherited triggers"]),
            QualifiedName.exactList(new["disabled inherited triggers"])
        )
        return before.filter { !after.contains($0) }.map { "\(alter) ENABLE TRIGGER \($0)" }
            + after.filter { !before.contains($0) }.map { "\(alter) DISABLE TRIGGER \($0)" }
    }
}

/// Decides how to change a property of a column.
struct ColumnAlteration {
    let old: CatalogObject
    let new: CatalogObject
    let relations: RelationDefinition

    private var alter: String { "ALTER TABLE \(new.identity.quotedParent) ALTER COLUMN \(new.identity.quotedName)" }

    func alteration(of property: String) -> Alteration {
        switch property {
        case "type", "collation": return .withDependentsAway(typeChange)
        case "default": return .statements([defaultChange])
        case "generated":
            return new["generated"] == nil && old["generated kind"] == nil
                ? .statements(["\(alter) DROP EXPRESSION"]) : .rebuild
        case "generated kind": return .rebuild
        case "not null": return .statements(notNullChange)
        case "identity": return .statements(identityChange)
        case "storage": return .statements([storageChange])
        case "compression": return .statements(["\(alter) SET COMPRESSION \(new[property] ?? "default")"])
        case "statistics target": return .statements(["\(alter) SET STATISTICS \(new[property] ?? "-1")"])
        case "options": return .statements(OptionList.change(old[property], new[property]).map { "\(alter) \($0)" })
        case "foreign options":
            return .statements([
                "ALTER FOREIGN TABLE \(new.identity.quotedParent) ALTER COLUMN \(new.identity.quotedName) "
                    + OptionList.foreignChange(old[property], new[property])
            ])
        default: return .rebuild
        }
    }

    private var notNullChange: [String] {
        let (before, after) = (old["not null"], new["not null"])
        let drop = "\(alter) DROP NOT NULL"
        guard let after else { return [drop] }
        // SET NOT NULL validates a constraint that is not valid.
        let isKept = before == nil || before == "not valid" && after == "yes"
        return (isKept ? [] : [drop])
            + [after == "yes" ? "\(alter) SET NOT NULL" : relations.addNotNull(of: new, after)]
    }

    private var defaultChange: String { "\(alter) " + (new["default"].map { "SET DEFAULT \($0)" } ?? "DROP DEFAULT") }

    /// The statements that change the type. The default is dropped first, because it may not fit the new type.
    private var typeChange: [String] {
        let type = new["type"] ?? ""
        let collation = new["collation"].map { " COLLATE \($0)" } ?? ""
        var statements: [String] = []
        if old["default"] != nil, old["generated"] == nil { statements.append("\(alter) DROP DEFAULT") }
        statements.append(
            "\(alter) TYPE \(type)\(collation) USING \(Self.conversion(new.identity.quotedName, old["type"] ?? "", type))"
        )
        if new["default"] != nil { statements.append(defaultChange) }
        return statements
    }

    /// Returns the conversion of a column to another type: a cast if PostgreSQL has one, otherwise a cast to text and
    /// from text, which every type supports.
    static func conversion(_ column: String, _ old: String, _ new: String) -> String {
        let numbers = ["smallint", "integer", "bigint", "numeric", "real", "double precision"]
        let texts = ["text", "character varying", "character", "name"]
        let times = ["date", "timestamp without time zone", "timestamp with time zone"]
        // The base type has no modifier: timestamp(3) with time zone becomes timestamp with time zone.
        let base = { (type: String) -> String in
            let (name, rest) = QualifiedName.halves(type, at: "(")
            return name + QualifiedName.halves(rest, at: ")").after
        }
        let (from, to) = (base(old), base(new))
        let isDirect = from == to || [numbers, texts, times].contains { $0.contains(from) && $0.contains(to) }
        return isDirect ? "\(column)::\(new)" : "\(column)::text::\(new)"
    }

    private var identityChange: [String] {
        guard let kind = new["identity"]?.uppercased() else { return ["\(alter) DROP IDENTITY"] }
        guard old["identity"] == nil else { return ["\(alter) SET GENERATED \(kind)"] }
        let options = relations.identityOptions(of: new.identity)
        return (old["default"] == nil ? [] : ["\(alter) DROP DEFAULT"]) + [
            "\(alter) ADD GENERATED \(kind) AS IDENTITY\(options)"
        ]
    }

    /// The statement that sets the storage of the column. If the storage is the default of the type, the statement is a
    /// DO statement that looks up that default on the server.
    private var storageChange: String {
        if let storage = new["storage"] { return "\(alter) SET STORAGE \(storage.uppercased())" }
        let table = quoteLiteral(new.identity.quotedParent)
        let body = """
            BEGIN
                EXECUTE (SELECT \(quoteLiteral("\(alter) SET STORAGE ")) || CASE t.typstorage WHEN 'p' THEN 'PLAIN'
                    WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
                    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                    WHERE a.attrelid = \(table)::regclass AND a.attname = \(quoteLiteral(new.identity.name)));
            END
            """
        return "DO \(quoteDollar(body))"
    }
}
