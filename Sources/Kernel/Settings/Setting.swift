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

    public init(pattern: String, reason: String) {
        self.pattern = pattern
        self.reason = reason
    }

    /// A pattern may contain a colon, so entries of a file are separated by a character that YAML does not allow.
    private static let separator: Character = "\u{1}"

    /// Parses the text of an entry. An entry of an environment variable has the form `pattern: reason`; the last colon
    /// is taken, so that a pattern never matches more than it says.
    public init?(_ text: String) {
        if let end = text.firstIndex(of: Self.separator) {
            self.init(pattern: String(text[..<end]), reason: String(text[text.index(after: end)...]))
        } else if let end = text.range(of: ": ", options: .backwards) {
            self.init(pattern: String(text[..<end.lowerBound]), reason: String(text[end.upperBound...]))
        } else {
            return nil
        }
    }

    /// The text of the entry.
    public var text: String { "\(pattern)\(Self.separator)\(reason)" }

    /// The entry as it is shown.
    public var shown: String { "\(pattern): \(reason)" }
}

extension Setting where Value == [ReasonedPattern] {
    /// A setting that maps patterns to reasons.
    public init(reasons path: String, _ summary: String) {
        key = SettingKey(path, .reasons, .reasoned, nil, summary)
        value = { (texts) throws(InvalidValue) in
            texts.compactMap(ReasonedPattern.init)
        }
    }
}
