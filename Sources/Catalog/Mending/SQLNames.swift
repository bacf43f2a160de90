import Postgres

/// What SQL calls an object in commands about it.
extension ObjectIdentity {
    /// With the words that COMMENT ON, DROP and ALTER … OWNER TO want: `TABLE posters.jobs`.
    var reference: String {
        switch kind {
        case .constraint: "CONSTRAINT \(quotedName) ON \(quotedParent)"
        case .domainConstraint: "CONSTRAINT \(quotedName) ON DOMAIN \(quotedParent)"
        case .rule, .trigger, .policy: "\(word) \(quotedName) ON \(quotedParent)"
        case .cast: "CAST (\(name))"
        case .schema, .extension, .collation, .enumType, .domain, .compositeType, .rangeType, .textSearchDictionary,
            .textSearchConfiguration, .foreignServer, .sequence, .function, .procedure, .aggregate, .operation, .table,
            .foreignTable, .column, .index, .view, .materializedView, .statistics, .eventTrigger, .publication,
            .defaultPrivileges:
            "\(word) \(sqlName)"
        }
    }

    /// The name as it stands alone: `posters.jobs`, `posters.claim(integer)`.
    var sqlName: String {
        switch kind {
        case .index: ([schema, name] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
        case .operation: "\(schema.map { PlainName.quoted($0) + "." } ?? "")\(name) (\(signature ?? ""))"
        case .aggregate: "\(path)(\(signature.map { $0.isEmpty ? "*" : $0 } ?? "*"))"
        case .function, .procedure: description
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignServer, .sequence, .cast, .table, .foreignTable,
            .column, .constraint, .view, .materializedView, .rule, .trigger, .policy, .statistics, .eventTrigger,
            .publication, .defaultPrivileges:
            path
        }
    }

    /// The kind as commands write it.
    var word: String {
        switch kind {
        case .enumType, .compositeType, .rangeType: "TYPE"
        case .foreignServer: "SERVER"
        case .domainConstraint: "CONSTRAINT"
        case .schema, .extension, .collation, .domain, .textSearchDictionary, .textSearchConfiguration, .sequence,
            .function, .procedure, .aggregate, .operation, .cast, .table, .foreignTable, .column, .constraint, .index,
            .view, .materializedView, .rule, .trigger, .policy, .statistics, .eventTrigger, .publication,
            .defaultPrivileges:
            kind.name.uppercased()
        }
    }
}

/// `name=value` pairs as the catalog lists them.
struct OptionList {
    struct Pair: Equatable {
        let name: String
        let value: String

        /// Reads `name=value`; where the name is in quotes, so is the value.
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

        /// As storage options are written, the name after a prefix.
        func storage(_ prefix: String = "") -> String {
            "\(prefix)\(PlainName.quoted(name))=\(quoteLiteral(value))"
        }
    }

    let pairs: [Pair]

    init(_ text: String?) { pairs = QualifiedName.list(text ?? "").map(Pair.init) }

    /// `(a='1', b='2')`.
    var list: String { "(" + pairs.map { $0.storage() }.joined(separator: ", ") + ")" }

    /// As foreign objects take them: `(a '1', b '2')`.
    var foreignList: String {
        "(" + pairs.map { "\(PlainName.quoted($0.name)) \(quoteLiteral($0.value))" }.joined(separator: ", ") + ")"
    }

    /// SET and RESET clauses that lead from one list to another.
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

    /// The OPTIONS clause that leads from one list of a foreign object to another.
    static func foreignChange(_ found: String?, _ expected: String?) -> String {
        let (old, new) = (OptionList(found).pairs, OptionList(expected).pairs)
        var parts = old.filter { one in !new.contains { $0.hasName(of: one) } }.map {
            "DROP \(PlainName.quoted($0.name))"
        }
        for one in new where !old.contains(one) {
            let verb = old.contains { $0.hasName(of: one) } ? "SET" : "ADD"
            parts.append("\(verb) \(PlainName.quoted(one.name)) \(quoteLiteral(one.value))")
        }
        return "OPTIONS (\(parts.joined(separator: ", ")))"
    }
}
