import CYAML
import Foundation
import Reporting

/// A node of a YAML file, with its line number.
public indirect enum YAMLNode: Sendable {
    case scalar(String, isPlain: Bool, line: Int)
    case sequence([YAMLNode], line: Int)
    case mapping([(key: String, keyLine: Int, value: YAMLNode)], line: Int)

    public var line: Int {
        switch self {
        case .scalar(_, _, let line), .sequence(_, let line), .mapping(_, let line): line
        }
    }

    /// Whether the node has no value: an empty value, `~` or `null`.
    public var isNull: Bool {
        guard case .scalar(let text, let isPlain, _) = self else { return false }
        return isPlain && ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// Parses a text that contains one document. An empty text is an empty mapping.
    ///
    /// - Throws: `ConfigurationError` with the line, if the text is not YAML, has a second document, has the same key
    ///   twice in a mapping, has a key that is not a scalar, or exceeds a limit of `YAMLLimits`.
    public static func parse(_ text: String, file: String) throws -> YAMLNode {
        let bytes = Array(text.utf8)
        guard bytes.count <= YAMLLimits.bytes else {
            throw ConfigurationError(file, nil, "the file is larger than \(YAMLLimits.bytes >> 20) MiB")
        }
        try YAMLLimits.check(bytes, text, file)
        return try withParser(bytes, file) { parser in
            let document = UnsafeMutablePointer<yaml_document_t>.allocate(capacity: 1)
            defer { document.deallocate() }
            guard yaml_parser_load(parser, document) == 1 else { throw YAMLLimits.problem(parser, text, file) }
            defer { yaml_document_delete(document) }
            guard let root = yaml_document_get_root_node(document) else { return .mapping([], line: 1) }
            var builder = YAMLTreeBuilder(document: document, file: file)
            return try builder.build(root, depth: 1)
        }
    }

    fileprivate static func withParser<T>(
        _ bytes: [UInt8], _ file: String, _ body: (UnsafeMutablePointer<yaml_parser_t>) throws -> T
    ) throws -> T {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else { throw ConfigurationError(file, nil, "out of memory") }
        defer { yaml_parser_delete(parser) }
        return try bytes.withUnsafeBufferPointer { buffer in
            yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
            return try body(parser)
        }
    }
}

/// The size limits of a file. They are needed, because a few bytes of YAML can expand to billions of nodes, and the
/// time that libyaml needs grows with the square of the depth and of the number of anchors.
enum YAMLLimits {
    static let bytes = 4 << 20
    static let depth = 100
    static let nodes = 100_000
    static let anchors = 1000

    /// Checks a file event by event, before the whole file is loaded.
    ///
    /// - Throws: `ConfigurationError` if the file is not YAML, has a second document, or exceeds a limit. An alias
    ///   counts as one node here; `YAMLTreeBuilder` counts the nodes that it refers to.
    fileprivate static func check(_ bytes: [UInt8], _ text: String, _ file: String) throws {
        try YAMLNode.withParser(bytes, file) { parser in
            let event = UnsafeMutablePointer<yaml_event_t>.allocate(capacity: 1)
            defer { event.deallocate() }
            var (documents, depth, nodes, anchors) = (0, 0, 0, 0)
            while true {
                guard yaml_parser_parse(parser, event) == 1 else { throw problem(parser, text, file) }
                defer { yaml_event_delete(event) }
                let line = Int(event.pointee.start_mark.line) + 1
                let anchor: UnsafeMutablePointer<yaml_char_t>?
                switch event.pointee.type {
                case YAML_STREAM_END_EVENT: return
                case YAML_DOCUMENT_START_EVENT:
                    documents += 1
                    guard documents == 1 else {
                        throw ConfigurationError(
                            file, line, "the file contains a second YAML document", hint: "remove the line '---'")
                    }
                    continue
                case YAML_MAPPING_START_EVENT:
                    depth += 1
                    anchor = event.pointee.data.mapping_start.anchor
                case YAML_SEQUENCE_START_EVENT:
                    depth += 1
                    anchor = event.pointee.data.sequence_start.anchor
                case YAML_MAPPING_END_EVENT, YAML_SEQUENCE_END_EVENT:
                    depth -= 1
                    continue
                case YAML_SCALAR_EVENT: anchor = event.pointee.data.scalar.anchor
                case YAML_ALIAS_EVENT: anchor = nil
                default: continue
                }
                nodes += 1
                if anchor != nil { anchors += 1 }
                guard depth <= Self.depth else { throw tooDeep(file, line) }
                guard nodes <= Self.nodes else { throw tooMany(file, line) }
                guard anchors <= Self.anchors else {
                    throw ConfigurationError(file, line, "the file has more than \(Self.anchors) anchors")
                }
            }
        }
    }

    fileprivate static func tooDeep(_ file: String, _ line: Int) -> ConfigurationError {
        ConfigurationError(file, line, "values are nested more than \(depth) levels deep")
    }

    fileprivate static func tooMany(_ file: String, _ line: Int) -> ConfigurationError {
        ConfigurationError(file, line, "the file has more than \(nodes) values, including the values of aliases")
    }

    /// Returns the error that libyaml has reported, with its line.
    fileprivate static func problem(
        _ parser: UnsafeMutablePointer<yaml_parser_t>, _ text: String, _ file: String
    ) -> ConfigurationError {
        let problem = parser.pointee.problem.map { String(cString: $0) } ?? "the file is not valid YAML"
        let line = Int(parser.pointee.problem_mark.line) + 1
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let hasTab = lines.indices.contains(line - 1) && lines[line - 1].contains("\t")
        return ConfigurationError(file, line, problem, hint: hasTab ? "indent with spaces, not tabs" : nil)
    }
}

private struct YAMLTreeBuilder {
    let document: UnsafeMutablePointer<yaml_document_t>
    let file: String
    private var nodes = 0

    init(document: UnsafeMutablePointer<yaml_document_t>, file: String) {
        self.document = document
        self.file = file
    }

    mutating func build(_ node: UnsafeMutablePointer<yaml_node_t>, depth: Int) throws -> YAMLNode {
        let line = Int(node.pointee.start_mark.line) + 1
        // The limit is also needed for a node that contains an alias to itself: without it, this method would call
        // itself forever.
        guard depth <= YAMLLimits.depth else { throw YAMLLimits.tooDeep(file, line) }
        nodes += 1
        guard nodes <= YAMLLimits.nodes else { throw YAMLLimits.tooMany(file, line) }
        switch node.pointee.type {
        case YAML_SCALAR_NODE:
            let scalar = node.pointee.data.scalar
            let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
            return .scalar(text, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE, line: line)
        case YAML_SEQUENCE_NODE:
            let items = node.pointee.data.sequence.items
            let numbers = UnsafeBufferPointer(start: items.start, count: items.top - items.start)
            var elements: [YAMLNode] = []
            for number in numbers { elements.append(try child(number, line, depth)) }
            return .sequence(elements, line: line)
        case YAML_MAPPING_NODE:
            let pairs = node.pointee.data.mapping.pairs
            var entries: [(key: String, keyLine: Int, value: YAMLNode)] = []
            var lines: [String: Int] = [:]
            for pair in UnsafeBufferPointer(start: pairs.start, count: pairs.top - pairs.start) {
                guard case .scalar(let key, _, let keyLine) = try child(pair.key, line, depth) else {
                    throw ConfigurationError(file, line, "a key must be a single word")
                }
                if let first = lines.updateValue(keyLine, forKey: key) {
                    throw ConfigurationError(file, keyLine, "'\(key)' is given twice, first on line \(first)")
                }
                entries.append((key, keyLine, try child(pair.value, line, depth)))
            }
            return .mapping(entries, line: line)
        default: throw ConfigurationError(file, line, "not a value")
        }
    }

    private mutating func child(_ number: Int32, _ line: Int, _ depth: Int) throws -> YAMLNode {
        guard let node = yaml_document_get_node(document, number) else {
            throw ConfigurationError(file, line, "not a value")
        }
        return try build(node, depth: depth + 1)
    }
}
