import Backups
import Kernel
import Reporting

/// The key `mask` in a `system.yaml`: the columns to mask in a copy for other people.
enum MaskSection {
    static let section = SystemSection<[String: [String: MaskingRules.Mask]]>(
        "mask",
        "How 'reeve backup restore --mask' masks columns: a map of tables, each a map of columns to one of "
            + MaskingRules.Mask.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ") + ".",
        example: "mask: {customers: {email: hash}}", read: read)

    private static func read(_ node: YAMLNode, _ file: String) throws -> [String: [String: MaskingRules.Mask]] {
        guard case .mapping(let tables, _) = node else {
            throw ConfigurationError(file, node.line, "'mask' must be a map of tables, each with its columns")
        }
        var masks: [String: [String: MaskingRules.Mask]] = [:]
        var mistakes: [ConfigurationError] = []
        for table in tables {
            guard case .mapping(let columns, _) = table.value else {
                mistakes.append(
                    ConfigurationError(
                        file, table.value.line, "'mask.\(table.key)' must be a map of columns, each with a mask"))
                continue
            }
            for column in columns {
                let text = try column.value.word(column.key, file)
                if let mask = MaskingRules.Mask(rawValue: text) {
                    masks[table.key, default: [:]][column.key] = mask
                } else {
                    let known = MaskingRules.Mask.allCases.map(\.rawValue)
                    mistakes.append(
                        ConfigurationError(
                            file, column.value.line, "'\(text)' is not a mask",
                            hint: didYouMean(text, among: known) ?? "write \(known.joined(separator: ", "))"))
                }
            }
        }
        try ConfigurationError.check(mistakes)
        return masks
    }

    /// Returns the masking rules of all systems.
    static func rules(_ systems: [System]) -> MaskingRules {
        var rules: [String: [String: [String: MaskingRules.Mask]]] = [:]
        for system in systems {
            if let mask = system[section], !mask.isEmpty { rules[system.schema] = mask }
        }
        return MaskingRules(rules)
    }
}
