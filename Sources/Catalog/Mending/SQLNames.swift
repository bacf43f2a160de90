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
        default: "\(word) \(sqlName)"
        }
    }

    /// The name as it stands alone: `posters.jobs`, `posters.claim(integer)`.
    var sqlName: String {
        switch kind {
        case .index: ([schema, name] as [String?]).compactMap { $0.map(PlainName.quoted) }.joined(separator: ".")
        case .operation: "\(schema.map { PlainName.quoted($0) + "." } ?? "")\(name) (\(signature ?? ""))"
        case .aggregate: "\(path)(\(signature.map { $0.isEmpty ? "*" : $0 } ?? "*"))"
        default: kind.isRoutine ? description : path
        }
    }

    /// The kind as commands write it.
    var word: String {
        switch kind {
        case .enumType, .compositeType, .rangeType: "TYPE"
        case .foreignServer: "SERVER"
        case .domainConstraint: "CONSTRAINT"
        default: kind.name.uppercased()
        }
    }
}

/// `name=value` pairs as the catalog lists them.
struct OptionList {
    let pairs: [(name: String, value: String)]

    init(_ text: String?) {
        pairs = QualifiedName.list(text ?? "").map { pair in
            let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return (String(halves[0]), halves.count > 1 ? String(halves[1]) : "")
        }
    }

    /// `(a='1', b='2')`, each name after a prefix.
    func list(prefix: String = "") -> String {
        "(" + pairs.map { "\(prefix)\($0.name)=\(quoteLiteral($0.value))" }.joined(separator: ", ") + ")"
    }

    /// As foreign objects take them: `(a '1', b '2')`.
    var foreignList: String {
        "(" + pairs.map { "\(PlainName.quoted($0.name)) \(quoteLiteral($0.value))" }.joined(separator: ", ") + ")"
    }

    /// SET and RESET clauses that lead from one list to another.
    static func change(_ found: String?, _ expected: String?, prefix: String = "") -> [String] {
        let (old, new) = (OptionList(found).pairs, OptionList(expected).pairs)
        let gone = old.filter { one in !new.contains { $0.name == one.name } }
        let changed = new.filter { one in !old.contains { $0 == one } }
        var clauses: [String] = []
        if !gone.isEmpty { clauses.append("RESET (" + gone.map { prefix + $0.name }.joined(separator: ", ") + ")") }
        if !changed.isEmpty {
            clauses.append(
                "SET (" + changed.map { "\(prefix)\($0.name)=\(quoteLiteral($0.value))" }.joined(separator: ", ") + ")")
        }
        return clauses
    }

    /// The OPTIONS clause that leads from one list of a foreign object to another.
    static func foreignChange(_ found: String?, _ expected: String?) -> String {
        let (old, new) = (OptionList(found).pairs, OptionList(expected).pairs)
        var parts = old.filter { one in !new.contains { $0.name == one.name } }.map {
            "DROP \(PlainName.quoted($0.name))"
        }
        for one in new where !old.contains(where: { $0 == one }) {
            let verb = old.contains { $0.name == one.name } ? "SET" : "ADD"
            parts.append("\(verb) \(PlainName.quoted(one.name)) \(quoteLiteral(one.value))")
        }
        return "OPTIONS (\(parts.joined(separator: ", ")))"
    }
}
