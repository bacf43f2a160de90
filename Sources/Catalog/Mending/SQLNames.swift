import Postgres
import SQL

/// The names of an object in SQL commands.
extension ObjectIdentity {
    /// The kind and the name, in the syntax of COMMENT ON, DROP and ALTER … OWNER TO: `TABLE posters.jobs`.
    var reference: String {
        switch kind {
        case .constraint: "CONSTRAINT \(quotedName) ON \(quotedParent)"
        case .domainConstraint: "CONSTRAINT \(quotedName) ON DOMAIN \(quotedParent)"
        case .rule, .trigger, .policy: "\(word) \(quotedName) ON \(quotedParent)"
        case .cast: "CAST (\(name))"
        case .userMapping:
            "USER MAPPING FOR \(signature == "(migrator)" ? "CURRENT_USER" : signature ?? "") SERVER \(quotedName)"
        case .schema, .extension, .collation, .enumType, .domain, .compositeType, .rangeType, .textSearchDictionary,
            .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .sequence, .function, .procedure, .aggregate,
            .operation, .table, .foreignTable, .column, .index, .view, .materializedView, .statistics, .eventTrigger,
            .publication, .subscription, .defaultPrivileges, .extensionMember:
            "\(word) \(sqlName)"
        }
    }

    /// The name without the kind: `posters.jobs`, `posters.claim(integer)`.
    var sqlName: String {
        switch kind {
        case .index: ([schema, name] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
        case .operation: "\(schema.map { PlainName.quoted($0) + "." } ?? "")\(name) (\(signature ?? ""))"
        case .aggregate: "\(path)(\(signature.map { $0.isEmpty ? "*" : $0 } ?? "*"))"
        case .function, .procedure: description
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .userMapping,
            .sequence,
            .cast, .table, .foreignTable, .column, .constraint, .view, .materializedView, .rule, .trigger, .policy,
            .statistics, .eventTrigger, .publication, .subscription, .defaultPrivileges, .extensionMember:
            path
        }
    }

    /// The keyword of the kind in commands.
    var word: String {
        switch kind {
        case .enumType, .compositeType, .rangeType: "TYPE"
        case .foreignServer: "SERVER"
        case .foreignDataWrapper: "FOREIGN DATA WRAPPER"
        case .domainConstraint: "CONSTRAINT"
        case .schema, .extension, .collation, .domain, .textSearchDictionary, .textSearchConfiguration, .sequence,
            .function, .procedure, .aggregate, .operation, .cast, .table, .foreignTable, .column, .constraint, .index,
            .view, .materializedView, .rule, .trigger, .policy, .statistics, .eventTrigger, .publication, .userMapping,
            .subscription, .defaultPrivileges, .extensionMember:
            kind.name.uppercased()
        }
    }
}

/// A list of `name=value` pairs, as in the catalog.
struct OptionList {
    struct Pair: Equatable {
        let name: String
        let value: String

        /// Parses `name=value`. If the name is quoted, the value is quoted too.
        init(_ text: String) {
            let (name, value) = QualifiedName.halves(text, at: "=")
            let isQuoted = name.utf8.first == UInt8(ascii: "\"")
            self.name = isQuoted ? QualifiedName.unquoted(name) : name
            self.value = isQuoted ? QualifiedName.unquoted(value) : value
        }

        static func == (left: Pair, right: Pair) -> Bool {
            left.hasName(of: right) && ExactText.same(left.value, right.value)
        }

        func hasName(of other: Pair) -> Bool { ExactText.same(name, other.name) }

        /// Returns the pair in the syntax of storage options, with a prefix before the name.
        func storage(_ prefix: String = "") -> String {
            "\(prefix)\(PlainName.quoted(name))=\(quoteLiteral(value))"
        }
    }

    /// Returns a pair as the catalog spells it: quoted if it contains a character that could be confused with a
    /// separator.
    static func spelled(_ name: String, _ value: String) -> String {
        let isPlain =
            name.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_.$-]*/) != nil
            && !value.utf8.contains { "\"'(),\r\n".utf8.contains($0) }
        return isPlain ? "\(name)=\(value)" : "\(quoteIdentifier(name))=\(quoteIdentifier(value))"
    }

    let pairs: [Pair]

    init(_ text: String?) { pairs = QualifiedName.list(text ?? "").map(Pair.init) }

    /// The list in the syntax of storage options: `(a='1', b='2')`.
    var list: String { "(" + pairs.map { $0.storage() }.joined(separator: ", ") + ")" }

    /// The list in the syntax of foreign objects: `(a '1', b '2')`.
    var foreignList: String {
        "(" + pairs.map { "\(PlainName.quoted($0.name)) \(quoteLiteral($0.value))" }.joined(separator: ", ") + ")"
    }

    /// Returns the SET and RESET clauses that change the found list into the expected list.
    static func change(_ found: String?, _ expected: String?, prefix: String = "") -> [String] {
        let (old, new) = (OptionList(found).pairs, OptionList(expected).pairs)
        let gone = old.filter { one in !new.contains { $0.hasName(of: one) } }
        let changed = new.filter { !old.contains($0) }
        var clauses: [String] = []
        if !gone.isEmpty {
            clauses.append("RESET (" + gone.map { prefix + PlainName.quoted($0.name) }.joined(separator: ", ") + ")")
        }
        if !changed.isEmpty {
            clauses.append("SET (" + changed.map { $0.storage(prefix) }.joined(separator: ", ") + ")")
        }
        return clauses
    }

    /// Returns the OPTIONS clause that changes the found list of a foreign object into the expected list.
    static func foreignChange(_ found: String?, _ expected: String?) -> String {
        let (old, new) = (OptionList(found).pairs, OptionList(expected).pairs)
        var parts = old.filter { one in !new.contains { $0.hasName(of: one) } }.map {
            "DROP \(PlainName.quoted($0.name))"
        }
        for one in new where !old.contains(one) {
            let verb = old.contains { $0.hasName(of: one) } ? "SET" : "ADD"
            parts.append("\(verb) \(PlainName.quoted(one.name)) \(quoteLiteral(one.value))")
        }
        if parts.isEmpty {
            // Only hidden values differ.
            parts = new.filter { $0.value == Secrets.mask }.map {
                "SET \(PlainName.quoted($0.name)) \(quoteLiteral($0.value))"
            }
        }
        return "OPTIONS (\(parts.joined(separator: ", ")))"
    }
}
