DROP TABLE websocket_connections, generation_costs, assets, sessions, users;
DROP TYPE cost_category, asset_status, asset_source, asset_type, product_category, session_status;
