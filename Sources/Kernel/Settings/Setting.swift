/// A setting of the configuration: its key, its default and the type of its value.
///
///     static let jobs = Setting("backup.jobs", .integer(1...64), default: "2", "Concurrent dumps or restores.")
///     …
///     let jobs = configuration[BackupSettings.jobs]    // Int
///
/// A setting can be set only if a feature lists its key.
public struct Setting<Value: Sendable>: Sendable {
    public let key: SettingKey
    /// Parses the strings that are configured for the setting. If there are none, returns the default. The strings were
    /// already checked when they were read.
    let value: @Sendable ([String]) throws(InvalidValue) -> Value

    /// A setting that always has a value.
    ///
    /// - Parameters:
    ///   - path: words separated by dots; `*` stands for a name that the user chooses.
    ///   - fallback: the default, in the form in which a user would write it.
    ///   - summary: the purpose, in one or two sentences.
    public init(_ path: String, _ syntax: ValueSyntax<Value>, default fallback: String, _ summary: String) {
        key = SettingKey(path, .value, syntax, fallback, summary)
        value = { (texts) throws(InvalidValue) in try syntax.parse(texts.first ?? fallback) }
    }

    /// A setting without a default; its value is nil unless it is set.
    public init<One>(_ path: String, _ syntax: ValueSyntax<One>, _ summary: String) where Value == One? {
        key = SettingKey(path, .value, syntax, nil, summary)
        value = { (texts) throws(InvalidValue) in
            guard let text = texts.first else { return nil }
            return try syntax.parse(text)
        }
    }

    /// A setting with any number of values.
    public init<One>(list path: String, _ syntax: ValueSyntax<One>, _ summary: String) where Value == [One] {
        key = SettingKey(path, .list, syntax, nil, summary)
        value = { (texts) throws(InvalidValue) in
            var values: [One] = []
            for text in texts { values.append(try syntax.parse(text)) }
            return values
        }
    }
}

/// A pattern, and a reason. What matches the pattern is accepted for that reason. For instance, patterns select the
/// differences of a schema that are accepted.
public struct ReasonedPattern: Sendable, Equatable {
    public let pattern: String
    public let reason: String
}

extension Setting where Value == [ReasonedPattern] {
    /// A setting that maps patterns to reasons.
    public init(reasons path: String, _ summary: String) {
        key = SettingKey(path, .reasons, .reasoned, nil, summary)
        value = { (texts) throws(InvalidValue) in
            texts.map { text in
                let halves = text.split(separator: SettingKey.reasonSeparator, maxSplits: 1)
                return ReasonedPattern(pattern: String(halves[0]), reason: halves.count > 1 ? String(halves[1]) : "")
            }
        }
    }
}
