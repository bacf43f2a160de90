import CYAML
import Foundation
import Reporting

/// A node of a YAML file, with the line on which it stands.
public indirect enum YAMLNode: Sendable {
    case scalar(String, isPlain: Bool, line: Int)
    case sequence([YAMLNode], line: Int)
    case mapping([(key: String, keyLine: Int, value: YAMLNode)], line: Int)

    public var line: Int {
        switch self {
        case .scalar(_, _, let line), .sequence(_, let line), .mapping(_, let line): line
        }
    }

    /// Whether it says nothing: an empty value, `~` or `null`.
    public var isNull: Bool {
        guard case .scalar(let text, let isPlain, _) = self else { return false }
        return isPlain && ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// Reads the only document of a text; an empty one is an empty mapping.
    ///
    /// - Throws: `ConfigurationError` with the line: no YAML, a key that is there twice, an alias, a key that is no
    ///   plain word.
    public static func parse(_ text: String, file: String) throws -> YAMLNode {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else { throw ConfigurationError(file, nil, "no memory for a parser") }
        defer { yaml_parser_delete(parser) }
        let bytes = Array(text.utf8)
        return try bytes.withUnsafeBufferPointer { buffer in
            yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
            let document = UnsafeMutablePointer<yaml_document_t>.allocate(capacity: 1)
            defer { document.deallocate() }
            guard yaml_parser_load(parser, document) == 1 else {
                let problem = parser.pointee.problem.map { String(cString: $0) } ?? "not YAML"
                let line = Int(parser.pointee.problem_mark.line) + 1
                let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
                let hasTab = lines.indices.contains(line - 1) && lines[line - 1].contains("\t")
                throw ConfigurationError(file, line, problem, hint: hasTab ? "indent with spaces, not tabs" : nil)
            }
            defer { yaml_document_delete(document) }
            guard let root = yaml_document_get_root_node(document) else { return .mapping([], line: 1) }
            let builder = YAMLTreeBuilder(document: document, file: file)
            return try builder.build(root, depth: 0)
        }
    }
}

private struct YAMLTreeBuilder {
    let document: UnsafeMutablePointer<yaml_document_t>
    let file: String

    func build(_ node: UnsafeMutablePointer<yaml_node_t>, depth: Int) throws -> YAMLNode {
        let line = Int(node.pointee.start_mark.line) + 1
        // An alias to a node that holds it would go round for ever.
        guard depth < 32 else { throw ConfigurationError(file, line, "nested too deeply") }
        switch node.pointee.type {
        case YAML_SCALAR_NODE:
            let scalar = node.pointee.data.scalar
            let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
            return .scalar(text, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE, line: line)
        case YAML_SEQUENCE_NODE:
            let items = node.pointee.data.sequence.items
            let numbers = UnsafeBufferPointer(start: items.start, count: items.top - items.start)
            return .sequence(try numbers.map { try child($0, line, depth) }, line: line)
        case YAML_MAPPING_NODE:
            let pairs = node.pointee.data.mapping.pairs
            var entries: [(key: String, keyLine: Int, value: YAMLNode)] = []
            for pair in UnsafeBufferPointer(start: pairs.start, count: pairs.top - pairs.start) {
                guard case .scalar(let key, _, let keyLine) = try child(pair.key, line, depth) else {
                    throw ConfigurationError(file, line, "a key must be a plain word")
                }
                if let first = entries.first(where: { $0.key == key }) {
                    throw ConfigurationError(file, keyLine, "'\(key)' is given twice, first on line \(first.keyLine)")
                }
                entries.append((key, keyLine, try child(pair.value, line, depth)))
            }
            return .mapping(entries, line: line)
        default: throw ConfigurationError(file, line, "not a value")
        }
    }

    private func child(_ number: Int32, _ line: Int, _ depth: Int) throws -> YAMLNode {
        guard let node = yaml_document_get_node(document, number) else {
            throw ConfigurationError(file, line, "not a value")
        }
        return try build(node, depth: depth + 1)
    }
}
