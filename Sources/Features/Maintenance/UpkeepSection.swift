import Kernel
import Reporting

/// A function of a system that the task `upkeep` calls without arguments.
struct UpkeepFunction: Sendable, Equatable {
    let name: String
    /// The option of the opt-in migration that creates the function; nil if the function is always there.
    var option: String?
    /// Whether the function deletes rows. Such a function is called only if the configuration names it.
    var deletes = false
    /// Whether the function works in batches, and is called again until it returns 0.
    var repeats = false
    /// How long one call may take.
    var timeout: Duration = .seconds(300)
    /// How long one call may wait for a lock. While it waits, other sessions may have to wait too.
    var lockTimeout: Duration = .seconds(1)
}

/// The key `upkeep` in a `system.yaml`.
enum UpkeepSection {
    static let section = SystemSection<[UpkeepFunction]>(
        "upkeep",
        "Functions that the task `upkeep` calls: a map of names, each with `option` (the opt-in migration that creates the "
            + "function), `deletes: yes` (it is called only if `upkeep.allow` names it), `repeat: yes` (it is called "
            + "until it returns 0), `timeout` (5min by default) and `lock_timeout` (1s). See [tasks.md](tasks.md).",
        example: "upkeep: {make_partitions: {option: partitions}, delete_old_orders: {deletes: yes, repeat: yes}}",
        read: read)

    private static let keys = ["option", "deletes", "repeat", "timeout", "lock_timeout"]

    static func read(_ node: YAMLNode, _ file: String) throws -> [UpkeepFunction] {
        guard case .mapping(let entries, _) = node else {
            throw ConfigurationError(file, node.line, "'upkeep' must be a map of functions")
        }
        var functions: [UpkeepFunction] = []
        var mistakes: [ConfigurationError] = []
        for entry in entries {
            let name = entry.key
            if name.isEmpty || name.contains("(") || name.contains(".") {
                mistakes.append(
                    ConfigurationError(
                        file, entry.keyLine, "'\(name)' is not the name of a function",
                        hint: "write the name without schema and parentheses: the function is in the system's schema "
                            + "and is called without arguments"))
                continue
            }
            var function = UpkeepFunction(name: name)
            if !entry.value.isNull {
                guard case .mapping(let properties, _) = entry.value else {
                    mistakes.append(
                        ConfigurationError(
                            file, entry.value.line,
                            "'upkeep.\(name)' must be a map with \(keys.joined(separator: ", "))"))
                    continue
                }
                for property in properties {
                    do {
                        try function.set(property, file)
                    } catch let error as ConfigurationError {
                        mistakes.append(error)
                    }
                }
            }
            functions.append(function)
        }
        try ConfigurationError.check(mistakes)
        return functions
    }

    fileprivate static func value<Value>(
        _ syntax: ValueSyntax<Value>, _ node: YAMLNode, _ key: String, _ file: String
    ) throws -> Value {
        let text = try node.word(key, file)
        do throws(InvalidValue) {
            return try syntax.parse(text)
        } catch {
            throw ConfigurationError(file, node.line, "'\(key)': \(error.message)", hint: error.hint)
        }
    }

    fileprivate static func unknown(_ key: String, _ line: Int, _ file: String) -> ConfigurationError {
        ConfigurationError(
            file, line, "unknown key '\(key)'",
            hint: didYouMean(key, among: keys) ?? "write \(keys.joined(separator: ", "))")
    }
}

extension UpkeepFunction {
    fileprivate mutating func set(_ entry: (key: String, keyLine: Int, value: YAMLNode), _ file: String) throws {
        let (key, node) = (entry.key, entry.value)
        switch key {
        case "option": option = try node.word(key, file)
        case "deletes": deletes = try UpkeepSection.value(.boolean, node, key, file)
        case "repeat": repeats = try UpkeepSection.value(.boolean, node, key, file)
        case "timeout": timeout = try UpkeepSection.value(.duration(Self.limits), node, key, file)
        case "lock_timeout": lockTimeout = try UpkeepSection.value(.duration(Self.limits), node, key, file)
        default: throw UpkeepSection.unknown(key, entry.keyLine, file)
        }
    }

    /// The server takes 0 for no limit.
    private static let limits: ClosedRange<Duration> = .milliseconds(1)...(.seconds(86400))
}
