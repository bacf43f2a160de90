import Postgres
import SQL

/// The statements that create types, collations, aggregates, operators, casts, text search objects, foreign servers and
/// what belongs to them, and subscriptions.
struct TypeDefinition {
    let object: CatalogObject

    private var name: String { object.identity.sqlName }

    var enumeration: String { "CREATE TYPE \(name) AS ENUM (\(object["labels"] ?? ""))" }

    var domain: String {
        var sql = "CREATE DOMAIN \(name) AS \(object["base type"] ?? "")"
        if let collation = object["collation"] { sql += " COLLATE \(collation)" }
        if let value = object["default"] { sql += " DEFAULT \(value)" }
        if object["not null"] != nil { sql += " NOT NULL" }
        return sql
    }

    var composite: String {
        let attributes = QualifiedName.lines(object["attributes"] ?? "").map { "    \($0)" }
        return "CREATE TYPE \(name) AS (\n\(attributes.joined(separator: ",\n"))\n)"
    }

    var range: String {
        var parts = ["SUBTYPE = \(object["subtype"] ?? "")"]
        if let value = object["subtype operator class"] { parts.append("SUBTYPE_OPCLASS = \(value)") }
        if let value = object["subtype collation"] { parts.append("COLLATION = \(value)") }
        if let value = object["canonical"] { parts.append("CANONICAL = \(value)") }
        if let value = object["subtype difference"] { parts.append("SUBTYPE_DIFF = \(value)") }
        if let value = object["multirange type"] { parts.append("MULTIRANGE_TYPE_NAME = \(value)") }
        return "CREATE TYPE \(name) AS RANGE (\(parts.joined(separator: ", ")))"
    }

    var collation: String {
        var parts = ["PROVIDER = \(object["provider"] ?? "libc")"]
        if let type = object["character type"], object["provider"] == "libc" {
            parts.append("LC_COLLATE = \(quoteLiteral(object["locale"] ?? "")), LC_CTYPE = \(quoteLiteral(type))")
        } else {
            parts.append("LOCALE = \(quoteLiteral(object["locale"] ?? ""))")
        }
        if object["deterministic"] != nil { parts.append("DETERMINISTIC = false") }
        if let rules = object["rules"] { parts.append("RULES = \(quoteLiteral(rules))") }
        return "CREATE COLLATION \(name) (\(parts.joined(separator: ", ")))"
    }

    var aggregate: String {
        let definition = QualifiedName.lines(object["definition"] ?? "").map { "    \($0)" }
        let arguments = object["arguments"].flatMap { $0.isEmpty ? nil : $0 } ?? "*"
        return "CREATE AGGREGATE \(object.identity.path)(\(arguments)) (\n\(definition.joined(separator: ",\n"))\n)"
    }

    var operation: String {
        let types = QualifiedName.list(object.identity.signature ?? "")
        var parts = ["FUNCTION = \(object["function"] ?? "")"]
        if let left = types.first, left != "NONE" { parts.append("LEFTARG = \(left)") }
        if let right = types.last { parts.append("RIGHTARG = \(right)") }
        for (property, word) in [("commutator", "COMMUTATOR"), ("negator", "NEGATOR")] {
            guard let value = object[property] else { continue }
            parts.append("\(word) = OPERATOR(\(QualifiedName.halves(value, at: "(").before))")
        }
        if let value = object["restrict"] { parts.append("RESTRICT = \(value)") }
        if let value = object["join"] { parts.append("JOIN = \(value)") }
        if object["hashes"] != nil { parts.append("HASHES") }
        if object["merges"] != nil { parts.append("MERGES") }
        let schema = object.identity.schema.map { PlainName.quoted($0) + "." } ?? ""
        return "CREATE OPERATOR \(schema)\(object.identity.name) (\(parts.joined(separator: ", ")))"
    }

    var cast: String {
        let method =
            switch object["method"] {
            case "inout": "WITH INOUT"
            case "binary": "WITHOUT FUNCTION"
            default: "WITH FUNCTION \(object["method"] ?? "")"
            }
        return "CREATE CAST (\(object.identity.name)) \(method)"
            + (object["context"].map { " AS \($0.uppercased())" } ?? "")
    }

    var dictionary: String {
        let options = object["options"].map { ", \($0)" } ?? ""
        return "CREATE TEXT SEARCH DICTIONARY \(name) (TEMPLATE = \(object["template"] ?? "")\(options))"
    }

    var configuration: [String] {
        let create = "CREATE TEXT SEARCH CONFIGURATION \(name) (PARSER = \(object["parser"] ?? ""))"
        return [create] + Self.mappings(object["mappings"]).map { Self.addMapping(name, $0) }
    }

    struct Mapping: Equatable {
        /// The token type. Like the dictionaries, it is quoted if necessary.
        let token: ExactText
        let dictionaries: ExactText
    }

    static func addMapping(_ name: String, _ mapping: Mapping) -> String {
        "ALTER TEXT SEARCH CONFIGURATION \(name) ADD MAPPING FOR \(mapping.token) WITH \(mapping.dictionaries)"
    }

    static func mappings(_ text: String?) -> [Mapping] {
        QualifiedName.lines(text ?? "").map { line in
            let (token, dictionaries) = QualifiedName.halves(line, at: " ")
            return Mapping(token: ExactText(token), dictionaries: ExactText(dictionaries))
        }
    }

    var server: String {
        var sql = "CREATE SERVER \(name)"
        if let type = object["type"] { sql += " TYPE \(quoteLiteral(type))" }
        if let version = object["version"] { sql += " VERSION \(quoteLiteral(version))" }
        sql += " FOREIGN DATA WRAPPER \(object["wrapper"] ?? "")"
        if let options = object["options"] { sql += " OPTIONS \(OptionList(options).foreignList)" }
        return sql
    }

    var wrapper: String {
        var sql = "CREATE FOREIGN DATA WRAPPER \(name)"
        if let handler = object["handler"] { sql += " HANDLER \(handler)" }
        if let validator = object["validator"] { sql += " VALIDATOR \(validator)" }
        return sql + options
    }

    var userMapping: String { "CREATE \(object.identity.reference)\(options)" }

    private var options: String { object["options"].map { " OPTIONS \(OptionList($0).foreignList)" } ?? "" }

    // MARK: Subscriptions

    /// The connection string as a literal.
    var connection: String {
        let pairs = OptionList(object["connection"]).pairs.map { pair in
            "\(pair.name)=\(quoteConnectionValue(pair.value))"
        }
        return quoteLiteral(pairs.joined(separator: " "))
    }

    func subscriptionOption(_ property: String) -> String {
        let standard = [
            "slot name": name, "synchronous commit": "off", "password required": "true", "origin": "any",
        ]
        let value = object[property] ?? standard[property] ?? "false"
        let isName = property == "slot name" && value != "NONE"
        return property.replacing(" ", with: "_") + " = "
            + (isName
                ? quoteLiteral(QualifiedName.unquoted(value)) : property == "origin" ? quoteLiteral(value) : value)
    }

    /// Creates the subscription without a connection to the publisher, as pg_dump does.
    var subscription: String {
        let given =
            ["synchronous commit", "binary", "streaming", "two phase", "disable on error"]
            + ["password required", "run as owner", "origin", "failover"]
        let options =
            ["connect = false", subscriptionOption("slot name")]
            + given.filter { object[$0] != nil }.map(subscriptionOption)
        return "CREATE SUBSCRIPTION \(name) CONNECTION \(connection) PUBLICATION \(object["publications"] ?? "") "
            + "WITH (\(options.joined(separator: ", ")))"
    }
}
